"""Every error of the gateway as `application/problem+json` (RFC 9457), and never more than we mean to say.

The codes are those of models/problem_codes.py. A route says which it answers with: `responses=problems("not_found")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway.schemas import ProblemMeaning
from models.access import Forbidden
from models.errors import Unavailable, WrongUse
from models.problem_codes import PROBLEMS, type_uri_of
from models.timeline_document import Ambiguous

log = structlog.get_logger()

router = APIRouter(tags=["operations"])

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
PROBLEM_SCHEMA = "#/components/schemas/Problem"
_WITH_RETRY_AFTER = {"unavailable", "rate_limited", "too_many_requests", "too_many_streams", "undecided"}

RATE_LIMIT_HEADERS = {
    "RateLimit-Policy": {"schema": {"type": "string"}, "example": '"maya.image";q=30;w=60'},
    "RateLimit": {"schema": {"type": "string"}, "example": '"maya.image";r=0;t=12'},
}


class Problem(Exception):
    """An answer that says no. `code` is stable; `detail` is one line for a person; `extra` goes into the document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def problem_response(problem: Problem) -> Response:
    """The problem as an answer."""
    return JSONResponse(document_of(problem), problem.status, problem.headers, CONTENT_TYPE)


def document_of(problem: Problem) -> dict[str, Any]:
    """The problem as a document (RFC 9457)."""
    kind = PROBLEMS.get(problem.code)
    return problem.extra | {
        "type": type_uri_of(problem.code),
        "title": kind.title if kind is not None else HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
    }


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """What a route's `responses` say of the problems it answers with; several codes may share a status.

    Raises KeyError: a code is not in the registry.
    """
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in sorted((PROBLEMS[code] for code in set(codes)), key=lambda kind: (kind.status, kind.code)):
        described = by_status.setdefault(
            kind.status,
            {"description": "", "content": {CONTENT_TYPE: {"schema": {"$ref": PROBLEM_SCHEMA}, "examples": {}}}},
        )
        described["description"] += ("; " if described["description"] else "") + f"`{kind.code}`: {kind.title}"
        example = document_of(Problem(kind.status, kind.code, kind.title.lower()))
        described["content"][CONTENT_TYPE]["examples"][kind.code] = {"value": example}
        if kind.code in _WITH_RETRY_AFTER:
            described["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "In seconds."}}
        if kind.code == "rate_limited":
            described["headers"] |= RATE_LIMIT_HEADERS
        if kind.status == 401:
            described["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return by_status


@router.get("/problems/{code}", summary="What a problem's type means", responses=problems("not_found"))
async def get_problem(code: str) -> ProblemMeaning:
    """Where the `type` of a problem document leads. Needs no token."""
    kind = PROBLEMS.get(code)
    if kind is None:
        raise Problem(404, "not_found", "there is no such problem")
    return ProblemMeaning(
        type=kind.type_uri, code=kind.code, status=kind.status, title=kind.title, what_to_do=kind.advice
    )


def install(app: FastAPI) -> None:
    """Answer every error of the application this way."""

    @app.exception_handler(Problem)
    async def on_problem(request: Request, problem: Problem) -> Response:
        return problem_response(problem)

    @app.exception_handler(Unavailable)
    async def on_unavailable(request: Request, error: Unavailable) -> Response:
        log.warning("request refused", path=request.url.path, why=str(error))
        return problem_response(unavailable(f"{error.what} is not available; try again"))

    @app.exception_handler(Forbidden)
    async def on_forbidden(request: Request, error: Forbidden) -> Response:
        return problem_response(Problem(403, "forbidden", str(error)))

    @app.exception_handler(Ambiguous)
    async def on_ambiguous(request: Request, error: Ambiguous) -> Response:
        return problem_response(Problem(409, "ambiguous", str(error), extra={"users": error.users}))

    @app.exception_handler(WrongUse)
    async def on_wrong_use(request: Request, error: WrongUse) -> Response:
        return problem_response(Problem(422, "invalid", str(error)))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return problem_response(Problem(error.status_code, code, str(error.detail), error.headers))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(invalid(error.errors()))

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> Response:
        log.error("request broke", path=request.url.path, why=repr(error), exc_info=error)
        return problem_response(Problem(500, "internal", "something went wrong on our side"))


AT_EVERY_DOOR = ("unauthorized", "forbidden", "invalid", "too_many_requests", "unavailable")
"""What every route answers with that asks who calls: `problems(*AT_EVERY_DOOR, "not_found")`."""


def invalid(found: Sequence[Any]) -> Problem:
    """422, naming the fields that the framework found wrong, never their values."""
    errors = [{"field": ".".join(str(part) for part in one["loc"]), "problem": str(one["msg"])} for one in found[:5]]
    where = ", ".join(error["field"] for error in errors)
    return Problem(422, "invalid", f"cannot be used: {where}", extra={"errors": errors})


def unavailable(detail: str) -> Problem:
    """503, with when to come again."""
    return Problem(503, "unavailable", detail, {"retry-after": str(RETRY_AFTER_S)})
