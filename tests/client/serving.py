"""Applications on a port of their own, and a gateway whose tokens are names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

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


def gateway_of(settings: Settings) -> FastAPI:
    """The gateway's application."""
    app = create_app(settings.model_copy(update={"replicate_webhook_secret": SECRET}))
    app.state.tokens = KnownTokens()
    return app
