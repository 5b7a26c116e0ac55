"""Reading the bodies of requests."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import Request

from gateway.problems import Problem

JSON_BYTES_MAX = 64 * 1024
BODY_TIMEOUT_S = 10.0


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The raw body. Raises Problem: 413 when it is too large, 408 when it takes too long."""
    too_large = Problem(413, "too_large", f"the body must be at most {bytes_max} bytes")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > bytes_max:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                body += part
                if len(body) > bytes_max:
                    raise too_large
    except TimeoutError as error:
        raise Problem(408, "too_slow", "the body took too long") from error
    return bytes(body)


async def read_json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body. Raises Problem: 400, 408 or 413."""
    try:
        body = msgspec.json.decode(await read_body(request, JSON_BYTES_MAX))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "bad_body", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Problem(400, "bad_body", "the body must be a JSON object")
    return body
