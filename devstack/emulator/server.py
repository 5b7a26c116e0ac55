"""Serves the emulator with uvicorn: as a command, or beside the caller in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from devstack.emulator.answers import HANG_UP
from devstack.emulator.app import create_app
from devstack.emulator.options import EmulatorOptions
from models.errors import SetupFailed

_CONNECTIONS_MAX = 4000
_START_TIMEOUT_S = 20.0


class _Protocol(HttpToolsProtocol):
    """Lets the application close a connection without an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][HANG_UP] = self.transport.abort


class _Server(uvicorn.Server):
    """Tells when it answers requests; signals are the caller's business."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound_socket(address: str) -> socket.socket:
    """A listening address `host:port`, port 0 for a free one. Raises SetupFailed: it is taken or not ours."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError, OverflowError) as error:
        listener.close()
        raise SetupFailed(
            f"the emulator cannot listen on {address} ({error}); set DARKROOM_EMULATOR to a free host:port"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where clients reach it; an address that listens everywhere is named by its loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://{host}:{port}"


def serve(options: EmulatorOptions, address: str, ready: Callable[[str], None] | None = None) -> None:
    """Runs until TERM or INT, at most two seconds after it. `ready` gets the URL once requests are answered.

    Raises SetupFailed: the address cannot be used.
    """
    listener = bound_socket(address)

    def started() -> None:
        if ready is not None:
            ready(url_of(listener))

    server = _server(options, started)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _exit, server)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(run())


def print_ready(url: str) -> None:
    """The line that starters wait for."""
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def running_emulator(options: EmulatorOptions | None = None, address: str = "127.0.0.1:0") -> Iterator[str]:
    """An emulator in a thread of this process; gives its URL. Raises SetupFailed."""
    listener = bound_socket(address)
    started = threading.Event()
    server = _server(options or EmulatorOptions(), started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="emulator", daemon=True)
    thread.start()
    try:
        if not started.wait(_START_TIMEOUT_S):
            raise SetupFailed(f"the emulator did not start within {_START_TIMEOUT_S:.0f} s")
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(5.0)


def _exit(server: _Server) -> None:
    server.should_exit = True


def _server(options: EmulatorOptions, on_started: Callable[[], None]) -> _Server:
    return _Server(
        uvicorn.Config(
            create_app(options),
            http=_Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,
            date_header=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS_MAX,
            backlog=2048,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
        ),
        on_started,
    )
