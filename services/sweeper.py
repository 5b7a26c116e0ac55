"""Sweeper: delete objects that nobody has, such as those of a crashed keeper or of pictures that users have deleted.

Slow on purpose: one folder a round, one round at a time over all workers. It never deletes what is younger than the
grace, what a row has, or what a request that is still storing may be about to have (adapters/sql/sweeps.sql).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import structlog

from adapters.blobs import Blobs, Listed
from adapters.postgres import Connection, Pool, connection
from adapters.sweeps import claim_round, deleting, end_round, find_orphans
from models.errors import Unavailable
from models.sweeping import CLOCK_SKEW_MAX_S, FLIGHT_S, FOLDER_COUNT, GRACE_S, folder_at
from services.hands import Hands
from services.metrics import OBJECTS_LOOKED_AT, OBJECTS_SWEPT, TROUBLES
from streams.crash_points import crash_point

log = structlog.get_logger()

ROUND_EVERY_S = 20.0
PAGE_OBJECTS = 1000
BATCH_MAX = 50
DELETIONS_MAX = 1000
CALLS_AT_ONCE = 16
BATCH_TIMEOUT_S = 60.0


class Sweeper:
    """Claims a round, lists a folder, deletes what is nobody's."""

    name = "sweeper"
    idle_s = 5.0

    def __init__(
        self,
        pool: Pool,
        blobs: Blobs,
        *,
        grace_s: float = GRACE_S,
        skew_s: float = CLOCK_SKEW_MAX_S,
        every_s: float = ROUND_EVERY_S,
        flight_s: float = FLIGHT_S,
    ) -> None:
        self.hands = Hands(self.name, 1)
        self._pool = pool
        self._blobs = blobs
        self._grace_s = grace_s
        self._skew_s = skew_s
        self._every_s = every_s
        self._flight_s = flight_s
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    async def tick(self) -> int:
        """Begin a round if it is time for one; returns 1 then. Raises Unavailable."""
        if self.hands.free <= 0:
            return 0
        position = await claim_round(self._pool, every_s=self._every_s, flight_s=self._flight_s)
        if position is None:
            return 0
        self.hands.take(self._round(position))
        return 1

    async def _round(self, position: int) -> None:
        folder = folder_at(position)
        deleted = 0
        try:
            async for page in self._pages(folder):
                OBJECTS_LOOKED_AT.inc(len(page))
                put_at = {listed.key: listed.modified_at for listed in page}
                async with connection(self._pool) as held:
                    orphans = await self._orphans(held, put_at)
                for begin in range(0, len(orphans), BATCH_MAX):
                    deleted += await self._sweep(position, orphans[begin : begin + BATCH_MAX])
                if deleted >= DELETIONS_MAX:
                    return  # the same folder again next time
            await end_round(self._pool, position, (position + 1) % FOLDER_COUNT)
        except Unavailable as error:
            TROUBLES.labels(self.name).inc()
            log.warning("sweep broken off", folder=folder, why=str(error))
        finally:
            if deleted:
                log.info("orphans swept", folder=folder, objects=deleted)

    async def _sweep(self, position: int, keys: Sequence[str]) -> int:
        """Delete those of these objects that are still nobody's; how many that were."""
        async with deleting(self._pool, position, flight_s=self._flight_s) as held:
            if held is None:
                return 0
            crash_point(self.name, 1)  # a batch is open, nothing deleted: keepers of this folder wait for its time
            try:
                async with asyncio.timeout(BATCH_TIMEOUT_S):
                    # Looked at again within the batch: a keeper that has stored one since then is seen here, and one
                    # that stores it later sees the batch.
                    found = await asyncio.gather(*(self._put_at(key) for key in keys))
                    put_at = {key: at for key, at in zip(keys, found, strict=True) if at is not None}
                    orphans = await self._orphans(held, put_at)
                    await asyncio.gather(*(self._delete(key) for key in orphans))
            except TimeoutError as error:
                raise Unavailable("the blob store", f"a batch took more than {BATCH_TIMEOUT_S:.0f} s") from error
            crash_point(self.name, 2)  # deleted, the batch still open: the same
        OBJECTS_SWEPT.labels(folder_at(position).partition("/")[0]).inc(len(orphans))
        return len(orphans)

    async def _orphans(self, held: Connection, put_at: Mapping[str, datetime]) -> list[str]:
        return await find_orphans(held, put_at, grace_s=self._grace_s, skew_s=self._skew_s)

    async def _put_at(self, key: str) -> datetime | None:
        async with self._calls:
            found = await self._blobs.stat(key)
            return None if found is None else found.modified_at

    async def _delete(self, key: str) -> None:
        async with self._calls:
            await self._blobs.delete(key)

    async def _pages(self, folder: str) -> AsyncIterator[list[Listed]]:
        page: list[Listed] = []
        async for listed in self._blobs.list(folder):
            page.append(listed)
            if len(page) >= PAGE_OBJECTS:
                yield page
                page = []
        if page:
            yield page
