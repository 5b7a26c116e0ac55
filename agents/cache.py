"""Cache: bring Redis up to every balance change.

Reads:      credits.changed.v1
Writes:     dead-letters.v1
Guarantees: the cache moves only to later versions, whatever the order and however often events come.
Fails:      while Redis is away the events wait in Kafka and entries expire by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.credit_cache import CachedBalance, CreditCache
from models import topics
from models.caching import digest
from models.outputs import Output, Record


class CacheProjector:
    """Writes balances set-if-newer."""

    topic = topics.CREDITS

    def __init__(self, cache: CreditCache) -> None:
        self._cache = cache

    async def project(self, records: Sequence[Record]) -> list[Output]:
        """The latest balance of each user in the batch goes to Redis."""
        changes, letters = digest(records)
        if changes:
            await self._cache.put(
                CachedBalance(change.user_id, change.balance, change.version, change.unlimited) for change in changes
            )
        return letters
