"""The client that sends webhooks, against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from devstack.emulator.posting import ANSWER_BYTES_MAX, NotDelivered, Poster

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers every request with `answer`; keeps what it read."""

    def __init__(self, answer: bytes, closes: bool = False) -> None:
        self.answer, self.closes = answer, closes
        self.requests: list[bytes] = []
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self.answer)
                if self.closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server) -> Any:
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    poster = Poster(0.5)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", poster
    finally:
        poster.close()
        listener.close()


OK = b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_a_connection_is_used_again() -> None:
    server = Server(OK)
    async with serving(server) as (url, poster):
        assert [await poster.post(f"{url}/a?b=c d&e=é", b"{}", {"x-one": "1"}) for _ in range(3)] == [204] * 3
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /a?b=c%20d&e=%C3%A9 HTTP/1.1\r\nhost: 127.0.0.1:")
    assert server.requests[0].endswith(b"\r\nx-one: 1\r\n\r\n{}")


async def test_posts_at_the_same_time_do_not_mix() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    async with serving(server) as (url, poster):
        statuses = await asyncio.gather(*(poster.post(url, str(n).encode(), {}) for n in range(40)))
    assert statuses == [200] * 40
    assert sorted(int(request.rpartition(b"\r\n\r\n")[2]) for request in server.requests) == list(range(40))


async def test_a_server_that_closes_idle_connections_is_reached_again() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", closes=True)
    async with serving(server) as (url, poster):
        assert [await poster.post(url, b"{}", {}) for _ in range(4)] == [200] * 4
    assert server.connections == 4


async def test_a_refusal_is_a_status_and_not_an_error() -> None:
    async with serving(Server(b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy")) as (url, poster):
        assert await poster.post(url, b"{}", {}) == 503


@pytest.mark.parametrize(
    ("answer", "closes"),
    [
        (b"", False),
        (b"", True),
        (b"hello\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * (ANSWER_BYTES_MAX + 1), False),
    ],
    ids=["silent", "closes", "no http", "breaks off", "too long"],
)
async def test_a_server_that_does_not_answer_is_an_error_in_time(answer: bytes, closes: bool) -> None:
    async with serving(Server(answer, closes)) as (url, poster):
        with pytest.raises(NotDelivered):
            async with asyncio.timeout(3):
                await poster.post(url, b"{}", {})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "http://", "http://127.0.0.1:99999/", "http://nobody.invalid/"]
)
async def test_a_server_that_is_not_there_is_an_error(url: str) -> None:
    with pytest.raises(NotDelivered):
        await Poster(2.0).post(url, b"{}", {})
