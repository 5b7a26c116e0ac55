"""The webhook door without Kafka: real HTTP, real signatures, facts straight into the world."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from devstack.emulator.options import LOCAL_WEBHOOK_SECRET
from gateway import problems, webhooks
from gateway.webhooks import WebhookDoor
from streams.facts import FactPublisher, Sending


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def open_door(publisher: Sending) -> AsyncIterator[str]:
    """The base URL of a door that is open until the block ends."""
    app = FastAPI()
    app.state.webhook_door = WebhookDoor(LOCAL_WEBHOOK_SECRET, FactPublisher(publisher, "gateway"))
    problems.install(app)
    app.include_router(webhooks.router)
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
