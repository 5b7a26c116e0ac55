"""Waiting for what becomes of a request, by reading the topics that answer it.

Begin to read before the request is sent, or a fast answer is missed:

    async with Outcome.following(settings, request) as outcome:
        place = await producer.request(request)
        event = await outcome.wait(place, timeout_s=60)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from models.requests import Request
from models.topics import ADMITTED, COMPLETED, FAILED, REJECTED, REQUESTED
from streams.partitioning import partition_of
from streams.producer import Place
from streams.reading import Reader
from streams.settings import Settings

ENDINGS = (REJECTED, COMPLETED, FAILED)
ANSWERS = (ADMITTED, *ENDINGS)
ADMISSION_GRACE_S = 2.0


class Answer(NamedTuple):
    """One event about the request. `at_ms` is broker time; `sent_ms` that of the request itself."""

    topic: str
    body: dict[str, Any]
    at_ms: int
    sent_ms: int


class Outcome:
    """Follows one request in its user's partition."""

    def __init__(self, reader: Reader, request: Request) -> None:
        self._reader = reader
        self._request = request

    @classmethod
    @asynccontextmanager
    async def following(cls, settings: Settings, request: Request) -> AsyncIterator[Outcome]:
        """Note where the topics end now. Raises Unavailable; SetupFailed when topics are missing."""
        async with Reader(settings, (REQUESTED, *ANSWERS)) as reader:
            await reader.start_at_end(partition_of(request.user_id, await reader.partitions()))
            yield cls(reader, request)

    async def wait(
        self, place: Place, *, timeout_s: float, on_admitted: Callable[[Answer], None] = lambda answer: None
    ) -> Answer | None:
        """The event that ended the request, None if none came in time. Raises Unavailable.

        The same request sent again is not completed again: its earlier end is looked up in what Kafka keeps.
        """
        deadline = time.monotonic() + timeout_s
        sent_ms: int | None = None
        waiting: list[tuple[str, Any]] = []
        is_admitted = False
        ending: Answer | None = None
        while (left_s := deadline - time.monotonic()) > 0:
            for topic, record in await self._reader.read(min(left_s, 1.0)):
                if topic != REQUESTED:
                    waiting.append((topic, record))
                elif record.offset == place.offset:
                    sent_ms = record.timestamp
            if sent_ms is None:
                continue
            for topic, record in waiting:
                body = _about(record.value, self._request)
                if body is None:
                    continue
                answer = Answer(topic, body, record.timestamp, sent_ms)
                if topic == REJECTED:
                    return answer
                if topic in ENDINGS:
                    # Topics are not read in the order of their events: the admission may be still to come.
                    deadline = min(deadline, time.monotonic() + ADMISSION_GRACE_S) if ending is None else deadline
                    ending = ending or answer
                elif not is_admitted:
                    is_admitted = True
                    on_admitted(answer)
                    if ending is None and _moment_ms(body["admitted_at"]) < sent_ms:
                        await self._reader.rewind((COMPLETED, FAILED))
            waiting.clear()
            if ending is not None and is_admitted:
                return ending
        return ending


def _about(value: bytes | None, request: Request) -> dict[str, Any] | None:
    """The event's body if it is about this request."""
    if value is None or request.request_id.encode() not in value:
        return None
    body = msgspec.json.decode(value)
    return body if (body["user_id"], body["request_id"]) == (request.user_id, request.request_id) else None


def _moment_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
