"""Grants: book credits that were given.

Reads:      credits.granted.v1
Writes:     credits.changed.v1, dead-letters.v1, and credits.granted.v1 for records that came to another partition than
            their key's
Guarantees: a grant is booked once by its grant_id, however often it is sent.
Fails:      the same grant_id with another amount, kind or user goes to the dead letters and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.books import known_grants, lock_accounts, make_accounts, write_entries
from adapters.postgres import Connection
from models import grants, topics
from models.grants import Grant
from models.outputs import Output, Record
from models.routing import Misrouted
from streams.decided import count_entries
from streams.delivery import Batch
from streams.partitioning import is_at_home


class GrantsStep:
    """The step that books grants; it needs no state of its own."""

    stream = "grants"
    topic = topics.GRANTED
    decision_type = grants.Decision

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def read(self, record: Record) -> grants.Input:
        """A grant, perhaps a misrouted one, or Unreadable."""
        grant = grants.read_grant(record.key, record.value)
        if isinstance(grant, Grant) and not is_at_home(record, grant.user_id, self._partitions):
            return Misrouted()
        return grant

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> object:
        """Nothing is kept between batches."""
        return ()

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[grants.Decision], int]:
        """Make missing accounts, lock all, book what is new."""
        new = [entry for entry in batch.inputs if isinstance(entry, Grant)]
        user_ids = {grant.user_id for grant in new}
        await make_accounts(connection, user_ids)
        facts = grants.Facts(
            accounts=await lock_accounts(connection, user_ids),
            known=await known_grants(connection, [grant.grant_id for grant in new]),
        )
        decisions, effects = grants.decide(batch.inputs, facts)
        await write_entries(connection, effects.entries, effects.changed.values())
        count_entries(batch.afterwards, effects.entries)
        return decisions, max(batch.clock_ms, batch.records[-1].timestamp)

    def render(
        self, records: Sequence[Record], inputs: Sequence[grants.Input], decisions: Sequence[grants.Decision]
    ) -> list[Output]:
        """The new balances."""
        return grants.render(records, inputs, decisions)
