"""Connections that send nothing, or a little at a time, or never read: they are cut, since each holds a place.

uvicorn limits only the time between requests; this limits the time and the bytes of a request's head, and how long a
client may leave what we send unread. A body's time is limited where it is read.
"""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.limits import HEAD_BYTES_MAX
from gateway.metrics import CUT

HEAD_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0
# Above this many, uvicorn answers 503; so many more may be open to be told so, the others are cut at once.
SPARE = 256
# What the process needs besides connections: Kafka, Postgres, files, the blob store.
OTHER_FILES = 512


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with timers: one until a request's head is complete, one while a client does not read."""

    head_timeout_s = HEAD_TIMEOUT_S
    write_timeout_s = WRITE_TIMEOUT_S

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _is_in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection without a request yet."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency + SPARE:
            self._cut("too_many")
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer may outlive its connection."""
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes; whole heads among them have become requests when this returns."""
        was_in_head = self._is_in_head
        if was_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(b"431 Request Header Fields Too Large", "head_too_large")
        elif self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            # Bytes outside of any request, an empty line for instance, have ended uvicorn's own timer.
            self._start_head_timer()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        # The chunk with it may hold the end of a body too, so it does not count.
        self._is_in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there: from here on the application has its own limits."""
        self._is_in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client is behind."""
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self.write_timeout_s, self._cut, "reads_nothing")

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._stop_write_timer()
        super().resume_writing()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._on_head_timeout)

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self._is_in_head:
            self._refuse(b"408 Request Timeout", "head_too_slow")
        else:
            CUT.labels("sends_nothing").inc()
            self.transport.close()

    def _refuse(self, status: bytes, reason: str) -> None:
        if self.cycle is None or self.cycle.response_complete:
            CUT.labels(reason).inc()
            self.transport.write(b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            self.transport.close()
        else:
            # An answer is under way, into which nothing may be written.
            self._cut(reason)

    def _cut(self, reason: str) -> None:
        CUT.labels(reason).inc()
        self.transport.abort()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def connections_max(wanted: int) -> int:
    """How many connections there may be: `wanted`, or what the process's limit of open files allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + SPARE + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - SPARE - OTHER_FILES))
