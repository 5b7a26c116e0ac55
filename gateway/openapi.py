"""The OpenAPI document: what FastAPI knows of the routes, with problems as they really are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.limits import needs_token
from gateway.problems import CONTENT_TYPE, problems
from gateway.schemas import FieldProblem, ProblemDocument

DESCRIPTION = """\
Pictures, videos and models made to order. Errors are `application/problem+json` (RFC 9457); each `type` leads to what
it means. Times are RFC 3339 UTC with milliseconds. A token of several users names one of them with `user`."""
TAGS = {
    "generations": "Requests and what becomes of them.",
    "credits": "Balances and their history.",
    "gallery": "What was made.",
    "files": "Stored pictures, thumbnails and videos.",
    "webhooks": "What the provider reports.",
    "access": "Short-lived tokens of users, and tickets for browsers.",
    "operations": "For whoever runs this.",
}
_METHODS = ("get", "put", "post", "delete", "patch", "head")
_FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI) -> None:
    """Let the application describe itself so. The document is made once, when it is first asked for."""
    app.openapi = lambda: document(app)  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, Any]:
    """The document of the application's routes; the same for the same routes."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=DESCRIPTION,
            routes=app.routes,
            tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for name in _FRAMEWORK_SCHEMAS:
            schemas.pop(name, None)
        problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        problem.pop("$defs", None)
        schemas["Problem"] = problem
        schemas[FieldProblem.__name__] = FieldProblem.model_json_schema()
        made["components"]["schemas"] = dict(sorted(schemas.items()))
        for path, item in made["paths"].items():
            for method, operation in item.items():
                if method in _METHODS:
                    _complete(path, operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(path: str, operation: dict[str, Any]) -> None:
    """What every route can answer with besides its own: limits, bugs; and none answers with the framework's errors."""
    responses = operation["responses"]
    codes = ["internal", "headers_too_large"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        codes.append("invalid")
    if "requestBody" in operation:
        codes += ["bad_request", "too_large", "too_slow"]
    if needs_token(path):
        codes.append("too_many_requests")
    for status, described in problems(*codes).items():
        if CONTENT_TYPE not in responses.get(str(status), {}).get("content", {}):
            responses[str(status)] = described
    operation["responses"] = dict(sorted(responses.items()))
