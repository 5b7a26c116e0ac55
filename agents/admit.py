"""Admit: the exact window, then the charge, in one step.

Reads:      generations.requested.v1
Writes:     generations.admitted.v1, generations.rejected.v1, credits.changed.v1, dead-letters.v1, and
            generations.requested.v1 for records that came to another partition than their key's
Guarantees: a request is charged once and answered the same way for ever; no window is over its limit.
Fails:      bad content is answered `invalid`; bytes without ids go to the dead letters; while Postgres or Kafka is
            away nothing is decided and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from adapters.books import known_generations, lock_accounts, rebuild_windows, write_admissions
from adapters.postgres import Connection
from models import admission, topics
from models.admission import Misrouted
from models.operations import LONGEST_WINDOW_MS
from models.outputs import Output, Record
from models.requests import Request, read_request
from models.windows import WindowLog
from streams.delivery import Batch
from streams.partitioning import partition_of

_partition_of = lru_cache(maxsize=200_000)(partition_of)


class AdmitStep:
    """The admission step."""

    stream = "admit"
    topic = topics.REQUESTED
    decision_type = admission.Decision

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def read(self, record: Record) -> admission.Input:
        """A request, a malformed or misrouted one, or Unreadable."""
        request = read_request(record.key, record.value)
        if type(request) is Request and _partition_of(request.user_id, self._partitions) != record.partition:
            return Misrouted()
        return request

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> WindowLog:
        """The partition's windows, from the rows of its admitted requests."""
        return await rebuild_windows(connection, partition, clock_ms - LONGEST_WINDOW_MS)

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[admission.Decision], int]:
        """Lock the accounts, look up known requests, decide, write."""
        requests = [entry for entry in batch.inputs if type(entry) is Request]
        facts = admission.Facts(
            accounts=await lock_accounts(connection, {request.user_id for request in requests}),
            known=await known_generations(connection, {(request.user_id, request.request_id) for request in requests}),
        )
        decisions, effects, clock_ms = admission.decide(batch.records, batch.inputs, facts, batch.state, batch.clock_ms)
        await write_admissions(connection, effects, batch.partition)
        return decisions, clock_ms

    def render(
        self, records: Sequence[Record], inputs: Sequence[admission.Input], decisions: Sequence[admission.Decision]
    ) -> list[Output]:
        """The answers."""
        return admission.render(records, inputs, decisions)
