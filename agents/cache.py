"""Cache: bring Redis up to every balance change.

Reads:      credits.changed.v1
Writes:     dead-letters.v1
Guarantees: entries move only to later versions, whatever the order and however often events come; what is missing
            begins with what Postgres says, never with an event.
Fails:      while Redis is away the events wait in Kafka and entries expire by themselves; while Postgres is away
            nothing missing begins.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from adapters.credit_cache import CreditCache
from adapters.credit_fills import CreditFills, LoadBalances
from models import topics
from models.caching import digest
from models.outputs import Output, Record


class CacheProjector:
    """Moves entries forward, and fills what is missing so that a user who acts is found in the cache."""

    topic = topics.CREDITS

    def __init__(self, cache: CreditCache, load: LoadBalances) -> None:
        self._cache = cache
        self._fills = CreditFills(cache, load)

    async def project(self, records: Sequence[Record]) -> list[Output]:
        """The latest balance of each user in the batch goes to Redis."""
        moves, letters = digest(records, int(time.time() * 1000))
        versions = {move.balance.user_id: move.balance.version for move in moves}
        missing = await self._cache.move(moves)
        if missing:
            await self._fills.fill([(user_id, versions[user_id]) for user_id in missing])
        return letters
