"""The application with everything that stands around its routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.limits import BodyLimit, HeadLimit, RateLimit
from streams.settings import Settings

# Nothing here is a page: no browser may run, frame or guess anything of it.
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    # Pictures say themselves how long they may be kept; nothing else may be.
    (b"cache-control", b"no-store"),
)
ALLOWED_METHODS = ("GET", "POST", "DELETE")
ALLOWED_HEADERS = ("authorization", "content-type", "idempotency-key", "prefer", "last-event-id", "traceparent")
EXPOSED_HEADERS = ("retry-after", "location", "ratelimit", "ratelimit-policy", "age", "preference-applied")
PREFLIGHT_S = 600
BURST = 2.0


class SecurityHeaders:
    """Adds to every answer what it does not say itself, to those about bugs and refusals too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                said = {name.lower() for name, _ in headers}
                headers += [(name, value) for name, value in SECURITY_HEADERS if name not in said]
                message = {**message, "headers": headers}
            await send(message)

        return await self._app(scope, receive, send_with_headers)


class GuardedApp(FastAPI):
    """FastAPI's own middleware stands inside the answers to bugs; this stands outside of all."""

    def __init__(self, settings: Settings, **given: Any) -> None:
        super().__init__(**given)
        self._settings = settings

    def build_middleware_stack(self) -> ASGIApp:
        """The limits around the routes, and the headers around those."""
        settings = self._settings
        per_s = settings.token_requests_per_s
        app: ASGIApp = BodyLimit(super().build_middleware_stack())
        app = HeadLimit(RateLimit(app, per_s, max(1.0, per_s * BURST)))
        if settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=ALLOWED_METHODS,
                allow_headers=ALLOWED_HEADERS,
                expose_headers=EXPOSED_HEADERS,
                max_age=PREFLIGHT_S,
            )
        return SecurityHeaders(app)
