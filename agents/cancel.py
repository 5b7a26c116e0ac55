"""Cancel: end requests that their users do not want any more, or have their runs stopped.

Reads:      generations.cancel_requested.v1
Writes:     generations.failed.v1, credits.changed.v1, dead-letters.v1, and generations.cancel_requested.v1 for records
            that came to another partition than their key's
Guarantees: a request without a run ends at once and is refunded once; one whose run may exist is not refunded before
            the run is stopped or its time is up; one whose run has succeeded completes as usual.
Fails:      unreadable records, and those about requests that were never admitted, go to the dead letters.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.books import lock_accounts, write_entries
from adapters.generations import lock_generations, write_settled
from adapters.postgres import Connection
from adapters.work import mark_cancelled
from models import cancelling, settlement, topics
from models.cancelling import CancelRequested
from models.outputs import Output, Record
from models.routing import Misrouted
from streams.decided import count_settlement
from streams.delivery import Batch
from streams.partitioning import is_at_home


class CancelStep:
    """The step that cancels; what it needs is in the rows it locks."""

    stream = "cancel"
    topic = topics.CANCEL_REQUESTED
    decision_type = cancelling.Decision

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def read(self, record: Record) -> cancelling.Input:
        """A user's wish, perhaps a misrouted one, or Unreadable."""
        wish = cancelling.read_cancel(record.key, record.value)
        if isinstance(wish, CancelRequested) and not is_at_home(record, wish.user_id, self._partitions):
            return Misrouted()
        return wish

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> object:
        """Nothing is kept between batches."""
        return ()

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[cancelling.Decision], int]:
        """Lock accounts, then generations, both in key order; decide; write."""
        wishes = [entry for entry in batch.inputs if isinstance(entry, CancelRequested)]
        facts = settlement.Facts(
            accounts=await lock_accounts(connection, {wish.user_id for wish in wishes}),
            generations=await lock_generations(connection, {(wish.user_id, wish.request_id) for wish in wishes}),
        )
        decisions, effects = cancelling.decide(batch.inputs, facts)
        await write_settled(connection, effects.settlement.generations.values())
        await mark_cancelled(connection, effects.stopping)
        await write_entries(connection, effects.settlement.entries, effects.settlement.accounts.values())
        count_settlement(batch.afterwards, effects.settlement)
        return decisions, max(batch.clock_ms, batch.records[-1].timestamp)

    def render(
        self, records: Sequence[Record], inputs: Sequence[cancelling.Input], decisions: Sequence[cancelling.Decision]
    ) -> list[Output]:
        """Failures and new balances."""
        return cancelling.render(records, inputs, decisions)
