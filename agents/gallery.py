"""Gallery: write the rows of stored pictures and complete their requests.

Reads:      images.stored.v1
Writes:     generations.completed.v1, generations.failed.v1, credits.changed.v1, dead-letters.v1
Guarantees: one row per stored output, written after the object exists; a request completes once; each missing
            output is given back once.
Fails:      unreadable facts, and facts about requests that were never admitted, go to the dead letters.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.books import lock_accounts, write_entries
from adapters.generations import lock_generations, write_gallery, write_settled
from adapters.postgres import Connection
from models import gallery, settlement, topics
from models.facts import ImagesStored, read_stored
from models.outputs import Output, Record
from streams.decided import count_settlement
from streams.delivery import Batch


class GalleryStep:
    """The step that completes. `images_url` is what a picture's key is appended to for its public address."""

    stream = "gallery"
    topic = topics.STORED
    decision_type = gallery.Decision

    def __init__(self, images_url: str) -> None:
        self._images_url = images_url

    def read(self, record: Record) -> gallery.Input:
        """Stored pictures, or Unreadable."""
        return read_stored(record.value)

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> object:
        """Nothing is kept between batches."""
        return ()

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[gallery.Decision], int]:
        """Lock accounts, then generations, both in key order; decide; write."""
        known = [entry for entry in batch.inputs if isinstance(entry, ImagesStored)]
        facts = settlement.Facts(
            accounts=await lock_accounts(
                connection, {fact.user_id for fact in known if fact.missing or not fact.images}
            ),
            generations=await lock_generations(connection, {(fact.user_id, fact.request_id) for fact in known}),
        )
        decisions, effects = gallery.decide(batch.inputs, facts, self._images_url)
        await write_settled(connection, effects.settlement.generations.values())
        await write_gallery(connection, effects.completed, effects.rows, self._images_url)
        await write_entries(connection, effects.settlement.entries, effects.settlement.accounts.values())
        count_settlement(batch.afterwards, effects.settlement)
        return decisions, max(batch.clock_ms, batch.records[-1].timestamp)

    def render(
        self, records: Sequence[Record], inputs: Sequence[gallery.Input], decisions: Sequence[gallery.Decision]
    ) -> list[Output]:
        """Completions, failures and new balances."""
        return gallery.render(records, inputs, decisions)
