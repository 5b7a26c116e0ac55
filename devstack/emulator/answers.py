"""Answers that every route uses: JSON by msgspec, problems as the provider words them, and no answer at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from devstack.emulator.core import Emulator

BODY_BYTES_MAX = 2 << 20
HANG_UP = "hang_up"  # key in the request's state: closes the connection; set by server.py


class TooLarge(Exception):
    """The request's body is over the bound."""


def emulator_of(request: Request) -> Emulator:
    emulator: Emulator = request.app.state.emulator
    return emulator


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def problem(status: int, detail: str, title: str = "", headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = {**({"title": title} if title else {}), "detail": detail, "status": status, **more}
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


async def json_body(request: Request) -> Any:
    """The decoded body; None when it is empty. Raises TooLarge, msgspec.DecodeError."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise TooLarge
        parts.append(part)
    return msgspec.json.decode(b"".join(parts)) if size else None


class NoAnswer(Response):
    """Closes the connection instead of answering.

    Under another server than ours there is no connection to close: there the answer breaks off after its headers.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hang_up: Callable[[], None] | None = scope.get("state", {}).get(HANG_UP)
        if hang_up is None:
            headers = [(b"content-length", b"1")]
            await send({"type": "http.response.start", "status": 502, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            return
        hang_up()
        while (await receive())["type"] != "http.disconnect":
            pass
