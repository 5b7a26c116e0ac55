"""HTTP requests by route, status and time, for any ASGI application.

Labels are bounded: a route is its template as declared, never an address that somebody sent, and what matches no route
is `other`, as is a method that no route could have.
"""

from __future__ import annotations

import time

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.exposition import EMULATOR, GATEWAY, measured_in

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"

HTTP_REQUESTS = Counter(
    "darkroom_http_requests_total",
    "Requests by route template (`other`: no route) and status; 499 when the connection ended before an answer.",
    ["method", "route", "status"],
)
HTTP_SECONDS = Histogram(
    "darkroom_http_request_seconds",
    "From a request's head to the head of its answer; what is streamed after it is not counted.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HTTP_OPEN = Gauge("darkroom_http_open_requests", "Requests whose answer has not ended; streams are among them.")

measured_in((GATEWAY, EMULATOR), HTTP_REQUESTS, HTTP_SECONDS, HTTP_OPEN)


class HttpMetrics:
    """ASGI middleware. Outermost but for what turns a broken route into 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answered: tuple[int, float] | None = None

        async def watched(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and answered is None:
                answered = message["status"], time.perf_counter() - began
            await send(message)

        HTTP_OPEN.inc()
        broken = False
        try:
            await self._app(scope, receive, watched)
        except Exception:
            broken = True
            raise
        finally:
            HTTP_OPEN.dec()
            status, seconds = answered or (500 if broken else 499, time.perf_counter() - began)
            method, route = method_of(scope), route_of(scope)
            HTTP_REQUESTS.labels(method, route, str(status)).inc()
            HTTP_SECONDS.labels(method, route).observe(seconds)


def method_of(scope: Scope) -> str:
    """The method if it is a usual one."""
    method = scope["method"]
    return method if method in METHODS else OTHER


def route_of(scope: Scope) -> str:
    """The template of the route that took the request; routing leaves it in the scope."""
    return getattr(scope.get("route"), "path", None) or OTHER
