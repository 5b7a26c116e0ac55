"""Applications on a port of their own, and a gateway whose tokens are names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from gateway.app import create_app
from streams.settings import Settings
from tests.gateway.conftest import SECRET
from tests.gateway.test_requests import KnownTokens
from tests.support.waiting import eventually

STOP_S = 2


@asynccontextmanager
async def served(app: Any, port: int = 0) -> AsyncIterator[str]:
    """The URL at which the application answers."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_config=None, lifespan="auto", timeout_graceful_shutdown=STOP_S
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    try:
        await eventually(lambda: server.started or serving.done(), 30, "nothing is served")
        assert server.started, serving.exception()
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


class Rows:
    """A stand-in for the routes that read and cancel one generation."""

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Any]] = {}
        self.cancelled: list[tuple[str, str]] = []

    def add_to(self, app: FastAPI) -> None:
        """Add those routes that the application has not."""
        methods = {
            method
            for route in app.routes
            if getattr(route, "path", "") == "/v1/generations/{request_id}"
            for method in getattr(route, "methods", ())
        }
        if "GET" not in methods:
            app.add_api_route("/v1/generations/{request_id}", self._get, methods=["GET"])
        if "DELETE" not in methods:
            app.add_api_route("/v1/generations/{request_id}", self._delete, methods=["DELETE"])

    async def _get(self, request_id: str, user: str) -> JSONResponse:
        view = self.views.get(request_id)
        return JSONResponse({"code": "not_found"}, 404) if view is None else JSONResponse(view)

    async def _delete(self, request_id: str, user: str) -> JSONResponse:
        self.cancelled.append((user, request_id))
        return JSONResponse({"request_id": request_id, "user_id": user}, 202)


def gateway_of(settings: Settings, rows: Rows) -> FastAPI:
    """The gateway's application, with `rows` for what it cannot answer."""
    app = create_app(settings.model_copy(update={"replicate_webhook_secret": SECRET}))
    rows.add_to(app)
    app.state.tokens = KnownTokens()
    return app
