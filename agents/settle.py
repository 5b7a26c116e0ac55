"""Settle: let facts about predictions move requests through their life, and give back what was not delivered.

Reads:      predictions.updated.v1
Writes:     generations.failed.v1, generations.completed.v1 (of trainings), credits.changed.v1, dead-letters.v1
Guarantees: a request ends once and is refunded once, however often, late or out of order facts arrive; a user's model
            is that of the user's latest training, whichever ends first; a run that no request waits for is stopped.
Fails:      unreadable facts, and facts about requests that were never admitted, go to the dead letters.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.books import lock_accounts, write_entries
from adapters.generations import lock_generations, write_settled
from adapters.postgres import Connection
from adapters.strays import write_strays
from adapters.user_models import write_user_models
from models import settlement, topics
from models.facts import PredictionUpdated, read_prediction
from models.outputs import Output, Record
from streams.decided import count_settlement
from streams.delivery import Batch


class SettleStep:
    """The step that settles; what it needs is in the rows it locks."""

    stream = "settle"
    topic = topics.PREDICTIONS
    decision_type = settlement.Decision

    def read(self, record: Record) -> settlement.Input:
        """A fact about a prediction, or Unreadable."""
        return read_prediction(record.value)

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> object:
        """Nothing is kept between batches."""
        return ()

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[settlement.Decision], int]:
        """Lock accounts, then generations, both in key order; decide; write."""
        known = [entry for entry in batch.inputs if isinstance(entry, PredictionUpdated)]
        facts = settlement.Facts(
            accounts=await lock_accounts(connection, {fact.user_id for fact in known if settlement.may_refund(fact)}),
            generations=await lock_generations(connection, {(fact.user_id, fact.request_id) for fact in known}),
        )
        decisions, effects = settlement.decide(batch.inputs, facts)
        await write_settled(connection, effects.generations.values())
        await write_user_models(connection, effects.models.values())
        await write_strays(connection, effects.strays.values())
        await write_entries(connection, effects.entries, effects.accounts.values())
        count_settlement(batch.afterwards, effects)
        return decisions, max(batch.clock_ms, batch.records[-1].timestamp)

    def render(
        self, records: Sequence[Record], inputs: Sequence[settlement.Input], decisions: Sequence[settlement.Decision]
    ) -> list[Output]:
        """Failures, completed trainings and new balances."""
        return settlement.render(records, inputs, decisions)
