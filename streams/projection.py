"""Projections: at-least-once handling for effects that are idempotent by themselves, such as set-if-newer writes.

They read on from Kafka's committed offset and need no progress row; a crash repeats the last batch.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from models.errors import Fenced, Unavailable
from models.outputs import Output, Record
from streams.publisher import Publisher

log = structlog.get_logger()

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class Projector(Protocol):
    """What a projection does with a batch."""

    topic: str

    async def project(self, records: Sequence[Record]) -> list[Output]:
        """Bring the projection up to these records; outputs are dead letters. Raises Unavailable: try again."""


class Projection:
    """Feeds a Projector from lanes."""

    def __init__(self, projector: Projector, publisher: Publisher) -> None:
        self.projector = projector
        self.publisher = publisher

    async def open(self, partition: int, end_offset: int) -> ProjectionSession:
        """Nothing is loaded."""
        return ProjectionSession(self, partition)


class ProjectionSession:
    """One ownership of one partition."""

    position: int | None = None

    def __init__(self, projection: Projection, partition: int) -> None:
        self._projection = projection
        self._partition = partition
        self._closed = False
        self.alive_at = time.monotonic()

    def close(self) -> None:
        """Give up at the next wait."""
        self._closed = True

    async def handle(self, records: list[Record]) -> int:
        """Project the batch, however often it has to be tried. Raises Fenced when the partition went away."""
        topic = self._projection.projector.topic
        for tries in itertools.count():
            if self._closed:
                raise Fenced("the partition was revoked")
            self.alive_at = time.monotonic()
            try:
                letters = await self._projection.projector.project(records)
                await self._projection.publisher.publish(self._partition, letters)
                break
            except Unavailable as error:
                wait_s = BACKOFF_S[min(tries, len(BACKOFF_S) - 1)]
                log.warning("projection waits", topic=topic, partition=self._partition, why=str(error), wait_s=wait_s)
                await asyncio.sleep(wait_s)
        return records[-1].offset + 1
