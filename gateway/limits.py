"""What a request may cost before a route sees it: its head, its body, and how many of them a caller may send.

Pure ASGI, around the whole application. Counts are of this process: with several gateways each has its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access import COUNTED, Tokens
from gateway.metrics import REFUSED
from gateway.problems import Problem, problem_response
from models.access import Principal
from models.errors import Unavailable
from models.rates import Buckets

# An event is at most 64 KiB; what is said around it is little.
BODY_BYTES_MAX = (64 << 10) + (4 << 10)
BODY_TIMEOUT_S = 10.0
HEAD_BYTES_MAX = 16 << 10
HEADERS_MAX = 100

# Of one address, whoever has no good token: enough for mistakes, too little for guessing or for a flood.
STRANGER_PER_S = 20.0
STRANGER_BURST = 100.0
CALLERS_MAX = 20_000

WEBHOOKS = "/v1/webhooks/"
IMAGES = "/v1/images/"
STREAM = "/v1/events"
_CLOSE = {"connection": "close"}


def needs_token(path: str) -> bool:
    """Webhooks are signed, and pictures are named by their content and public."""
    return path.startswith("/v1/") and not path.startswith((WEBHOOKS, IMAGES))


class HeadLimit:
    """Refuses what is too much before the body: 431."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _head_is_too_large(scope):
            detail = f"the line and headers must be at most {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} headers"
            problem = Problem(431, "headers_too_large", detail, _CLOSE)
            return await _refuse(problem, scope, receive, send)
        return await self._app(scope, receive, send)


class RateLimit:
    """Counts requests of each token, and of each address those without a good one: 429."""

    def __init__(self, app: ASGIApp, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._known = Buckets(per_s, burst, CALLERS_MAX)
        self._strangers = Buckets(STRANGER_PER_S, STRANGER_BURST, CALLERS_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and needs_token(scope["path"]):
            try:
                principal = await _principal_in(scope)
            except Unavailable:
                # Nobody can be known just now, which the route says better.
                return await self._app(scope, receive, send)
            if principal is None:
                wait_s, who = (
                    self._strangers.take(_peer(scope), self._clock()),
                    "from this address without a good token",
                )
            else:
                wait_s, who = self._known.take(principal.token_id, self._clock()), "with this token"
                # The route need not look it up again.
                scope[COUNTED] = principal
            if wait_s > 0:
                # Another connection would cost more than another answer; only a body that nobody reads is cut off.
                headers = (_CLOSE if _has_body(scope) else {}) | {"retry-after": str(math.ceil(wait_s))}
                problem = Problem(429, "too_many_requests", f"too many requests {who}", headers)
                return await _refuse(problem, scope, receive, send)
        return await self._app(scope, receive, send)


class BodyLimit:
    """Has the whole body before a route begins: 413 when it is too large, 408 when it takes too long.

    The webhook door has limits of its own.
    """

    def __init__(self, app: ASGIApp, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(WEBHOOKS) or not _has_body(scope):
            return await self._app(scope, receive, send)
        try:
            body = await self._read(scope, receive)
        except Problem as problem:
            return await _refuse(problem, scope, receive, send)
        if body is None:
            return None
        return await self._app(scope, _replayed(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body, None when the caller has gone. Raises Problem."""
        too_large = Problem(413, "too_large", f"the body must be at most {BODY_BYTES_MAX} bytes", _CLOSE)
        length = _header(scope, b"content-length")
        if length.isdigit() and int(length[:20]) > BODY_BYTES_MAX:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > BODY_BYTES_MAX:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Problem(408, "too_slow", f"the body took more than {self._timeout_s:g} s", _CLOSE) from None


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    REFUSED.labels(problem.code).inc()
    await problem_response(problem)(scope, receive, send)


def _replayed(body: bytes, receive: Receive) -> Receive:
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


async def _principal_in(scope: Scope) -> Principal | None:
    tokens: Tokens = scope["app"].state.tokens
    kind, _, token = _header(scope, b"authorization").decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and token:
        return await tokens.principal_of(token.strip())
    query: bytes = scope.get("query_string", b"")
    if scope["path"] == STREAM and not kind:
        tickets = [part[7:] for part in query.split(b"&") if part.startswith(b"ticket=")]
        return await tokens.principal_of_ticket(tickets[-1].decode("latin-1")) if tickets else None
    return None


def _peer(scope: Scope) -> str:
    """The address, of which a single subscriber of IPv6 has a whole /64."""
    host = str((scope.get("client") or ("unknown",))[0])
    if ":" in host:
        try:
            return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))
        except ValueError:
            return host
    return host


def _has_body(scope: Scope) -> bool:
    return any(name in (b"transfer-encoding", b"content-length") for name, _ in scope["headers"])


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((bytes(value) for name, value in scope["headers"] if name == wanted), b"")


def _head_is_too_large(scope: Scope) -> bool:
    headers = scope["headers"]
    line = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    return len(headers) > HEADERS_MAX or line + sum(len(name) + len(value) for name, value in headers) > HEAD_BYTES_MAX
