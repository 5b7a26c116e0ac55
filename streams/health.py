"""A worker's /healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from adapters.exposition import exposition
from models.errors import SetupFailed

STARTUP_TIMEOUT_S = 5.0


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the worker decides when to stop."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


class HealthServer:
    """Serves until stopped, on 127.0.0.1 unless told otherwise. Port 0 takes a free one.

    `process` is whose metrics are shown; `refresh` brings those up to date that are not counted as things happen.
    """

    def __init__(
        self,
        port: int,
        is_ready: Callable[[], bool],
        refresh: Callable[[], Awaitable[None]],
        process: str,
        host: str = "127.0.0.1",
    ) -> None:
        async def healthz(request: Request) -> Response:
            return PlainTextResponse("ok\n")

        async def readyz(request: Request) -> Response:
            return PlainTextResponse("ready\n") if is_ready() else PlainTextResponse("not ready\n", 503)

        async def metrics(request: Request) -> Response:
            await refresh()
            return Response(exposition(process), media_type=CONTENT_TYPE_LATEST)

        app = Starlette(
            routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)],
        )
        self._host, self._port = host, port
        self._server = _Server(
            uvicorn.Config(app, host=host, port=port, log_level="critical", access_log=False, lifespan="off")
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Begin to serve; returns the address. Raises SetupFailed: the port is taken."""
        self._task = asyncio.create_task(self._serve())
        async with asyncio.timeout(STARTUP_TIMEOUT_S):
            while not self._server.started:
                if self._task.done():
                    raise SetupFailed(
                        f"{self._host}:{self._port} cannot be had; set DARKROOM_METRICS_PORT to another port, or to 0"
                        " for any"
                    )
                await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://{'127.0.0.1' if self._host == '0.0.0.0' else self._host}:{port}"  # noqa: S104

    async def _serve(self) -> None:
        with contextlib.suppress(SystemExit):
            await self._server.serve()

    async def stop(self) -> None:
        """Stop serving at once: what is asked here is asked again."""
        self._server.should_exit = True
        self._server.force_exit = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=2.0)
