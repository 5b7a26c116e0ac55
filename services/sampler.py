"""The sampler: compares the credit cache with Postgres, a few entries at a time, all day long."""

from __future__ import annotations

import time

from adapters.credit_cache import CreditCache
from adapters.credit_fills import LoadBalances
from models.sampling import PROPAGATION_S, Comparison, Ratio
from services.hands import Hands
from services.metrics import (
    CACHE_BEHIND,
    CACHE_SAMPLES,
    CACHE_STALE,
    CACHE_STALE_AGE_SECONDS,
    CACHE_STALE_RATIO,
    CACHE_WRONG,
)

ENTRIES_PER_LOOK = 200
ENTRIES_MAX = 1_000


class Sampler:
    """Goes round the cache entry by entry, and looks again at those that were behind."""

    name = "sampler"
    idle_s = 1.0

    def __init__(self, cache: CreditCache, load: LoadBalances, propagation_s: float = PROPAGATION_S) -> None:
        self.hands = Hands(self.name, 0)
        self._cache = cache
        self._load = load
        self._comparison = Comparison(propagation_s)
        self._ratio = Ratio()
        self._cursor = 0

    async def tick(self) -> int:
        """One look; there is always time until the next. Raises Unavailable."""
        self._cursor, some = await self._cache.scan(self._cursor, ENTRIES_PER_LOOK)
        users = list(dict.fromkeys([*self._comparison.suspects, *some]))[:ENTRIES_MAX]
        began_s = time.monotonic()
        held = dict(zip(users, await self._cache.read(users), strict=True))
        stored = await self._load(users) if users else {}
        look = self._comparison.look(held, stored, began_s, time.monotonic())
        CACHE_SAMPLES.inc(look.compared)
        CACHE_BEHIND.inc(look.behind)
        CACHE_STALE.inc(look.stale)
        CACHE_WRONG.inc(look.wrong)
        CACHE_STALE_AGE_SECONDS.set(look.stale_s)
        CACHE_STALE_RATIO.set(self._ratio.add(look))
        return 0
