"""The OpenAPI document: what FastAPI knows of the routes, with problems as they really are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.problems import problems
from gateway.schemas import FieldProblem, ProblemDocument

DESCRIPTION = """\
Pictures, videos and models made to order. Errors are `application/problem+json` (RFC 9457); each `type` leads to what
it means. Times are RFC 3339 UTC with milliseconds. A token of several users names one of them with `user`."""
TAGS = {
    "generations": "Requests and what becomes of them.",
    "credits": "Balances and their history.",
    "gallery": "What was made.",
    "files": "Stored pictures, thumbnails and videos.",
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
        for path in made["paths"].values():
            for method, operation in path.items():
                if method in _METHODS:
                    _complete(operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(operation: dict[str, Any]) -> None:
    """Every route can break, and none answers with the framework's own errors."""
    responses = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        responses.update(_by_text(problems("invalid")))
    responses.update(_by_text(problems("internal")))
    operation["responses"] = dict(sorted(responses.items()))


def _by_text(described: dict[int | str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(status): response for status, response in described.items()}
