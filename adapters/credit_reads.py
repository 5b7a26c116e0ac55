"""Reading balances: from the cache first, from Postgres when it must be, and never too many at once.

    credits = CreditReads.connect(redis_url, pool)
    reading = await credits.read("ada")          # .balance .version .unlimited .age_s .from_cache

One for each process, for any number of readers; nothing is kept here but what is on its way. A read is answered from
something that was asked after it began, so nobody is shown less than what anybody of this process was shown before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from adapters.batching import Batcher
from adapters.credit_cache import USERS_PER_CALL, CreditCache
from adapters.credit_fills import CreditFills, LoadBalances, balances_from
from adapters.metrics import (
    CACHE_FALLBACKS,
    CACHE_HITS,
    CACHE_JOINS,
    CACHE_MISSES,
    CACHE_REFUSALS,
    CACHE_RENEWALS,
)
from adapters.postgres import Pool
from models.caching import CreditReading, Floors, is_due, is_usable
from models.errors import Unavailable

CACHE_TIMEOUT_S = 0.25
CACHE_CALLS_MAX = 2
CACHE_WAITING_MAX = 20_000
USERS_PER_QUERY = 1_000
FLOOR_KEEP_S = 60.0
"""Longer than an entry lives, so that none can be left that is older than what was shown."""
FLOOR_USERS_MAX = 100_000


@dataclass(frozen=True)
class Gate:
    """How much of Postgres balance reads may have: queries at once, and reads that wait for one."""

    queries_max: int = 2
    waiting_max: int = 2_000


@dataclass
class ReadCounts:
    """Reads so far: each is a hit, a miss or a fallback (the cache was away); the latter two ask Postgres.

    `joins` of those shared another read's question there; `refusals` found too many waiting. `renewals` are questions
    to Postgres that no read waits for.
    """

    hits: int = 0
    misses: int = 0
    fallbacks: int = 0
    joins: int = 0
    refusals: int = 0
    renewals: int = 0


_COUNTERS = {
    "hits": CACHE_HITS,
    "misses": CACHE_MISSES,
    "fallbacks": CACHE_FALLBACKS,
    "joins": CACHE_JOINS,
    "refusals": CACHE_REFUSALS,
    "renewals": CACHE_RENEWALS,
}


class CreditReads:
    """The reader. Closing it leaves the pool open."""

    def __init__(self, cache: CreditCache, load: LoadBalances, gate: Gate = Gate()) -> None:
        self.counts = ReadCounts()
        self._published = ReadCounts()
        self._cache = cache
        self._fills = CreditFills(cache, load)
        self._renewing: set[str] = set()
        self._floors = Floors(FLOOR_KEEP_S, FLOOR_USERS_MAX)
        self._cached: Batcher[str, CreditReading | None] = Batcher(
            "Redis",
            self._from_cache,
            batch_max=USERS_PER_CALL,
            in_flight_max=CACHE_CALLS_MAX,
            waiting_max=CACHE_WAITING_MAX,
        )
        self._stored: Batcher[tuple[str, int], CreditReading] = Batcher(
            "Postgres",
            self._from_postgres,
            batch_max=USERS_PER_QUERY,
            in_flight_max=gate.queries_max,
            waiting_max=gate.waiting_max,
        )

    @classmethod
    def connect(cls, redis_url: str, pool: Pool, gate: Gate = Gate()) -> Self:
        """A reader with a Redis connection of its own. Nothing is asked before the first read."""
        return cls(CreditCache(redis_url, timeout_s=CACHE_TIMEOUT_S), balances_from(pool), gate)

    async def read(self, user_id: str, *, at_least: int = 0) -> CreditReading:
        """A user's balance. `at_least` is a version that the caller knows of: less is not taken from the cache.

        Raises Unavailable: neither Redis nor Postgres answers, or too many reads wait for Postgres already.
        """
        floor = max(at_least, self._floors.of(user_id, time.monotonic())) if self._floors else at_least
        if self._cache.is_up():
            try:
                held = await self._cached.ask(user_id)
            except Unavailable:
                self.counts.fallbacks += 1
            else:
                if is_usable(held, floor):
                    self.counts.hits += 1
                    if is_due(held):
                        self._renew(held)
                    return held
                self.counts.misses += 1
        else:
            self.counts.fallbacks += 1
        try:
            answer = self._stored.ask((user_id, floor))
        except Unavailable:
            self.counts.refusals += 1
            raise
        return await answer

    def _renew(self, held: CreditReading) -> None:
        """Ask Postgres for more than what is held, which nobody waits for; if it cannot be, the entry just expires."""
        user_id = held.user_id
        if user_id in self._renewing:
            return
        try:
            answer = self._stored.ask((user_id, held.version + 1))
        except Unavailable:
            return
        self.counts.renewals += 1
        self._renewing.add(user_id)
        answer.add_done_callback(lambda done: self._renewed(user_id, done))

    def _renewed(self, user_id: str, answer: asyncio.Future[CreditReading]) -> None:
        self._renewing.discard(user_id)
        if not answer.cancelled():
            answer.exception()

    async def close(self) -> None:
        """Disconnect from Redis; reads that wait get Unavailable."""
        await self._cached.close()
        await self._stored.close()
        await self._cache.close()
        self._publish()

    async def _from_cache(self, user_ids: Sequence[str]) -> Sequence[CreditReading | None]:
        self._publish()
        return await self._cache.read(user_ids)

    async def _from_postgres(self, asked: Sequence[tuple[str, int]]) -> Sequence[CreditReading | Unavailable]:
        self._publish()
        answers = []
        for answer, is_held in await self._fills.fill(asked):
            if isinstance(answer, CreditReading) and not is_held:
                self._floors.lift(answer.user_id, answer.version, time.monotonic())
            answers.append(answer)
        return answers

    def _publish(self) -> None:
        """Hand the counts to Prometheus batch by batch: an observation for each read would be felt."""
        self.counts.joins = self._stored.shared
        for name, counter in _COUNTERS.items():
            counted = getattr(self.counts, name)
            counter.inc(counted - getattr(self._published, name))
            setattr(self._published, name, counted)
