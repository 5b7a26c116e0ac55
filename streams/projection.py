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
from streams.metrics import PROJECTION_OLDEST_SECONDS, PROJECTION_SECONDS
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
        self.in_hand_ms: dict[int, int] = {}
        """By partition, the broker time of the first record of the batch in hand."""
        PROJECTION_OLDEST_SECONDS.labels(projector.topic).set_function(self.oldest_age_s)

    def oldest_age_s(self) -> float:
        """The age of the oldest event that has come and is not applied yet. What waits in a lane is younger."""
        return _age_s(min(self.in_hand_ms.values())) if self.in_hand_ms else 0.0

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
        projection = self._projection
        projection.in_hand_ms[self._partition] = records[0].timestamp
        try:
            await self._project(records)
        finally:
            projection.in_hand_ms.pop(self._partition, None)
        PROJECTION_SECONDS.labels(projection.projector.topic).observe(_age_s(records[0].timestamp))
        return records[-1].offset + 1

    async def _project(self, records: list[Record]) -> None:
        topic = self._projection.projector.topic
        for tries in itertools.count():
            if self._closed:
                raise Fenced("the partition was revoked")
            self.alive_at = time.monotonic()
            try:
                letters = await self._projection.projector.project(records)
                await self._projection.publisher.publish(self._partition, letters)
                return
            except Unavailable as error:
                wait_s = BACKOFF_S[min(tries, len(BACKOFF_S) - 1)]
                log.warning("projection waits", topic=topic, partition=self._partition, why=str(error), wait_s=wait_s)
                await asyncio.sleep(wait_s)


def _age_s(at_ms: int) -> float:
    return max(0.0, time.time() - at_ms / 1000)
