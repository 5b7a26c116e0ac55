"""The emulator as an ASGI application."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from devstack.emulator import control_api, files_api, models_api, provider_api
from devstack.emulator.answers import problem
from devstack.emulator.core import Emulator
from devstack.emulator.options import EmulatorOptions
from streams.http_metrics import HttpMetrics

__all__ = ["EmulatorOptions", "create_app"]


def create_app(options: EmulatorOptions) -> FastAPI:
    """A FastAPI application; its state lives from start-up to shutdown and is not shared with another one."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.emulator = Emulator(options)
        try:
            yield
        finally:
            await app.state.emulator.stop()

    app = FastAPI(title="Darkroom provider emulator", lifespan=lifespan, docs_url=None, redoc_url=None)
    for part in (control_api, models_api, provider_api, files_api):
        app.include_router(part.router)
    if options.api_token:
        app.add_middleware(_TokenGuard, token=options.api_token)
    app.add_middleware(HttpMetrics)
    return app


class _TokenGuard:
    """Answers 401 on the provider's paths unless the right token is sent; files and control stay open."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._accepted = tuple(f"{scheme} {token}".encode() for scheme in ("Bearer", "Token"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not any(hmac.compare_digest(sent, accepted) for accepted in self._accepted):
                detail = "You did not pass a valid authentication token"
                await problem(401, detail, "Unauthenticated")(scope, receive, send)
                return
        await self._app(scope, receive, send)
