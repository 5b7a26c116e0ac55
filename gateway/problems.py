"""Every error of the gateway as `application/problem+json` (RFC 9457), and never more than we mean to say."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from models.errors import Unavailable

log = structlog.get_logger()

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = 2


class Problem(Exception):
    """An answer that says no. `code` is stable; `detail` is one line for a person; `extra` are more fields."""

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
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        **problem.extra,
    }
    return JSONResponse(body, problem.status, problem.headers, CONTENT_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of the application this way."""

    @app.exception_handler(Problem)
    async def on_problem(request: Request, problem: Problem) -> Response:
        return problem_response(problem)

    @app.exception_handler(Unavailable)
    async def on_unavailable(request: Request, error: Unavailable) -> Response:
        log.warning("request refused", path=request.url.path, why=str(error))
        return problem_response(unavailable(f"{error.what} is not available; try again"))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return problem_response(Problem(error.status_code, code, str(error.detail), error.headers))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        where = ", ".join(".".join(str(part) for part in entry["loc"]) for entry in error.errors()[:5])
        return problem_response(Problem(422, "invalid", f"cannot be used: {where}"))

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> Response:
        log.error("request broke", path=request.url.path, why=repr(error), exc_info=error)
        return problem_response(Problem(500, "internal", "something went wrong on our side"))


def unavailable(detail: str) -> Problem:
    """503, with when to come again."""
    return Problem(503, "unavailable", detail, {"retry-after": str(RETRY_AFTER_S)})
