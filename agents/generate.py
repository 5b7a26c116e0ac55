"""Generate: put admitted requests into the queue that the dispatcher claims from.

Reads:      generations.admitted.v1
Writes:     dead-letters.v1
Guarantees: an admitted request is queued once, with the trace that it came with; an answer that is given again queues
            nothing.
Fails:      unreadable records go to the dead letters.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.generations import queue_generations
from adapters.postgres import Connection
from models import queueing, topics
from models.outputs import Output, Record, traceparent_of
from models.queueing import AdmittedRequest
from streams.delivery import Batch


class GenerateStep:
    """The step that queues work; it needs no state of its own."""

    stream = "generate"
    topic = topics.ADMITTED
    decision_type = queueing.Decision

    def read(self, record: Record) -> queueing.Input:
        """An admitted request's identity, or Unreadable."""
        return queueing.read_admitted(record.value)

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> object:
        """Nothing is kept between batches."""
        return ()

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[queueing.Decision], int]:
        """Set the rows' state; a request that was answered twice keeps the trace of the first answer."""
        traces: dict[tuple[str, str], str | None] = {}
        for record, entry in zip(batch.records, batch.inputs, strict=True):
            if isinstance(entry, AdmittedRequest):
                traces.setdefault((entry.user_id, entry.request_id), traceparent_of(record))
        await queue_generations(connection, traces)
        return queueing.decide(batch.inputs), max(batch.clock_ms, batch.records[-1].timestamp)

    def render(
        self, records: Sequence[Record], inputs: Sequence[queueing.Input], decisions: Sequence[queueing.Decision]
    ) -> list[Output]:
        """Dead letters, if any."""
        return queueing.render(records, decisions)
