"""A small HTTP client that only posts: webhooks are most of what a bench makes the emulator do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import cast
from urllib.parse import quote, urlsplit

import httptools

ANSWER_BYTES_MAX = 1 << 20
_IDLE_MAX = 64  # kept open for each server
_SAFE = "/?:@!$&'()*+,;=%~-._[]"

Server = tuple[bool, str, int]


class NotDelivered(Exception):
    """No answer came: the server is away, too slow, or does not speak HTTP. It may have read the request."""


class Poster:
    """Keeps connections open between posts. No redirects, no proxies, no cookies."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._idle: dict[Server, list[_Connection]] = {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer. Raises NotDelivered within the timeout."""
        try:
            server, request = _request_of(url, body, headers)
            async with asyncio.timeout(self._timeout_s):
                return await self._send(server, request)
        except (OSError, ValueError, TimeoutError) as error:
            raise NotDelivered(str(error)) from None

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _send(self, server: Server, request: bytes) -> int:
        idle = self._idle.setdefault(server, [])
        while idle:
            connection = idle.pop()
            with contextlib.suppress(_ClosedEarly):
                return await self._exchange(server, connection, request)
        secure, host, port = server
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, host, port, ssl=secure or None)
        return await self._exchange(server, connection, request)

    async def _exchange(self, server: Server, connection: _Connection, request: bytes) -> int:
        try:
            status = await connection.send(request)
        except BaseException:
            connection.close()
            raise
        idle = self._idle.setdefault(server, [])
        if connection.reusable and len(idle) < _IDLE_MAX:
            idle.append(connection)
        else:
            connection.close()
        return status


class _ClosedEarly(ConnectionError):
    """The server closed the connection before a byte of an answer, as it may do to an idle one."""


class _Connection(asyncio.Protocol):
    """One exchange at a time; the parser calls the `on_` methods."""

    def __init__(self) -> None:
        self.reusable = False
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer: asyncio.Future[int] | None = None
        self._received = 0

    def send(self, request: bytes) -> asyncio.Future[int]:
        self.reusable, self._received = False, 0
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            self._answer.set_exception(_ClosedEarly("closed while idle"))
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._parser is None or self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not an HTTP answer: {error}"))
        if self._received > ANSWER_BYTES_MAX:
            self._fail(ConnectionError("the answer is too long"))

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._answer is not None and not self._answer.done():
            self.reusable = self._parser.should_keep_alive()
            self._answer.set_result(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._received:
            self._fail(ConnectionError("the answer broke off"))
        else:
            self._fail(_ClosedEarly("closed without an answer"))

    def _fail(self, error: ConnectionError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _request_of(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[Server, bytes]:
    """Where to connect and what to write. Raises ValueError: the URL cannot be used."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    if not parts.hostname:
        raise ValueError("the URL names no server")
    target = quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
    host = quote(parts.netloc.rpartition("@")[2], ":[]")
    lines = [f"POST {target} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    return (secure, parts.hostname, parts.port or (443 if secure else 80)), head + body
