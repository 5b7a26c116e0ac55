"""Connections that only hold a place are cut, and the others are served meanwhile. Over raw sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import httpx
import pytest
import uvicorn
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from gateway import connections
from gateway.app import create_app
from gateway.connections import GuardedProtocol, connections_max
from gateway.limits import HEAD_BYTES_MAX, BodyLimit
from streams.settings import Settings

HEAD = b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n"


class Quick(GuardedProtocol):
    """The same, in a hurry."""

    head_timeout_s = 0.3
    write_timeout_s = 0.3


class OwnServer(uvicorn.Server):
    """Signals are the test runner's."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def large_answers(ended: asyncio.Event) -> APIRouter:
    """GET /large: more than any buffer takes; `ended` is set once it is given up."""
    router = APIRouter()

    async def parts() -> AsyncIterator[bytes]:
        try:
            for _ in range(10_000):
                yield b"x" * 100_000
        finally:
            ended.set()

    @router.get("/large")
    async def send_much() -> StreamingResponse:
        return StreamingResponse(parts())

    return router


Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@asynccontextmanager
async def served(
    settings: Settings, connections_limit: int | None = None, *routers: APIRouter
) -> AsyncIterator[tuple[Open, str]]:
    """The gateway on a real socket: (opens a connection, the URL)."""
    app = create_app(settings)
    for router in routers:
        app.include_router(router)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app, http=Quick, ws="none", log_level="error", access_log=False, timeout_keep_alive=30,
        limit_concurrency=connections_limit, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = OwnServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader, writer

    try:
        yield connect, f"http://127.0.0.1:{port}"
    finally:
        for writer in opened:
            writer.close()
        server.should_exit = True
        await serving


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """Everything until the other side closes; a reset takes nothing away that came before it."""
    said = b""
    try:
        while part := await asyncio.wait_for(reader.read(65_536), 10):
            said += part
    except ConnectionResetError:
        pass
    return said


async def test_who_sends_nothing_is_cut(offline_settings: Settings) -> None:
    async with served(offline_settings) as (connect, _):
        began = time.monotonic()
        reader, _writer = await connect()
        assert await end_of(reader) == b""
        assert time.monotonic() - began >= 0.25


async def test_who_sends_a_head_a_byte_at_a_time_is_told_so_and_cut(offline_settings: Settings) -> None:
    async with served(offline_settings) as (connect, _):
        reader, writer = await connect()
        reading = asyncio.create_task(end_of(reader))
        for byte in HEAD * 1000:
            if reading.done() or writer.is_closing():
                break
            writer.write(bytes([byte]))
            await asyncio.wait({reading}, timeout=0.02)
        assert (await reading).startswith(b"HTTP/1.1 408 ")


async def test_empty_lines_keep_no_connection(offline_settings: Settings) -> None:
    async with served(offline_settings) as (connect, _):
        reader, writer = await connect()
        writer.write(HEAD + b"\r\n")
        assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
        reading = asyncio.create_task(end_of(reader))
        for _ in range(500):
            if reading.done() or writer.is_closing():
                break
            writer.write(b"\r\n")
            await asyncio.wait({reading}, timeout=0.02)
        assert await reading == b""


async def test_who_sends_requests_is_not_cut_between_them(offline_settings: Settings) -> None:
    async with served(offline_settings) as (connect, _):
        reader, writer = await connect()
        began = time.monotonic()
        served_requests = 0
        while time.monotonic() - began < 3 * Quick.head_timeout_s:
            writer.write(HEAD[:10])
            await writer.drain()
            writer.write(HEAD[10:] + b"\r\n")
            assert b"200 OK" in await reader.readuntil(b"ok\n")
            served_requests += 1
        assert served_requests > 1


@pytest.mark.parametrize("line", [b"x-large: ", b"a: b\r\n", b""])
async def test_a_head_without_end_is_refused_before_it_fills_memory(offline_settings: Settings, line: bytes) -> None:
    async with served(offline_settings) as (connect, _):
        reader, writer = await connect()
        reading = asyncio.create_task(end_of(reader))
        writer.write(HEAD if line else b"GET /")
        sent = 0
        try:
            while not reading.done() and sent < 50 << 20:
                part = (line or b"x") * 1000
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
                sent += len(part)
        except ConnectionError:
            pass
        said = await reading
        assert said == b"" or said.startswith(b"HTTP/1.1 431 ")
        assert sent < 50 << 20


async def test_a_complete_head_that_is_too_large_is_a_problem(offline_settings: Settings) -> None:
    async with served(offline_settings) as (_, url), httpx.AsyncClient(base_url=url, timeout=10) as client:
        response = await client.get("/healthz", headers={"x-large": "x" * HEAD_BYTES_MAX})
        assert response.status_code == 431
        assert (await client.get("/healthz", headers={"x-large": "x" * (HEAD_BYTES_MAX // 2)})).status_code == 200


async def test_who_reads_nothing_is_cut(offline_settings: Settings) -> None:
    ended = asyncio.Event()
    async with served(offline_settings, None, large_answers(ended)) as (connect, _):
        _reader, writer = await connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /large HTTP/1.1\r\nhost: gateway\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 10)
        writer.transport.abort()


async def test_slow_connections_leave_room_for_others(
    offline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quick, "head_timeout_s", 2.0)
    async with served(offline_settings) as (connect, url):
        slow = []
        for _ in range(200):
            slow.append(await connect())
            slow[-1][1].write(HEAD)
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            assert (await client.get("/healthz")).status_code == 200
        answers = await asyncio.gather(*(end_of(reader) for reader, _ in slow))
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)


async def test_more_connections_than_may_be_are_told_so_and_then_cut(
    offline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SPARE", 5)
    monkeypatch.setattr(Quick, "head_timeout_s", 30.0)
    async with served(offline_settings, 10) as (connect, _):
        held = [await connect() for _ in range(15)]
        too_many, _writer = await connect()
        assert await end_of(too_many) == b""
        reader, writer = held[-1]
        writer.write(HEAD + b"\r\n")
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 503 ")


def test_there_are_never_more_connections_than_files() -> None:
    assert connections_max(100) == 100
    assert connections_max(10**9) < 10**9


@pytest.mark.parametrize(("part", "status"), [(b"1\r\nx\r\n", b"408"), (b"1000\r\n" + b"x" * 4096 + b"\r\n", b"413")])
async def test_a_body_without_end_is_refused_and_cut(
    offline_settings: Settings, monkeypatch: pytest.MonkeyPatch, part: bytes, status: bytes
) -> None:
    monkeypatch.setattr("gateway.guard.BodyLimit", lambda app: BodyLimit(app, 0.5))
    async with served(offline_settings) as (connect, _):
        reader, writer = await connect()
        reading = asyncio.create_task(end_of(reader))
        writer.write(b"POST /v1/user-tokens HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1000):
            if reading.done() or writer.is_closing():
                break
            writer.write(part)
            await asyncio.wait({reading}, timeout=0.01)
        assert (await reading).startswith(b"HTTP/1.1 " + status)
