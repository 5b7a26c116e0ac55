"""Serving the gateway until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from gateway.connections import GuardedProtocol, connections_max
from models.errors import SetupFailed

CONNECTIONS_MAX = 12_500
STOP_S = 5


class _Server(uvicorn.Server):
    """Tells when it answers; signals are handled outside, so that TERM ends in good order and with exit 0."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(address: str, setting: str) -> socket.socket:
    """A listening socket on `host:port`, port 0 for a free one.

    Raises SetupFailed: it cannot be had; `setting` is what to change.
    """
    host, _, port = address.rpartition(":")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError, OverflowError) as error:
        listener.close()
        raise SetupFailed(f"cannot listen on {address} ({error}); set {setting} to a free host:port") from None
    return listener


async def serve(
    app: FastAPI,
    listener: socket.socket,
    ready: Callable[[str], None],
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve until TERM or Ctrl-C and a little over STOP_S at most; `ready` gets the URL once requests are answered.

    `on_stop` is called first when it ends: streams that would go on for ever must be ended by it.
    """
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=connections_max(CONNECTIONS_MAX),
        timeout_graceful_shutdown=STOP_S,
    )
    server = _Server(config, lambda: ready(f"http://{host}:{port}"))

    def stop() -> None:
        on_stop()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await server.serve(sockets=[listener])
