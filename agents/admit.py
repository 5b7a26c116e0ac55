"""Admit: the exact window, then the charge, in one step.

Reads:      generations.requested.v1, limits.changed.v1
Writes:     generations.admitted.v1, generations.rejected.v1, credits.changed.v1, dead-letters.v1, and
            generations.requested.v1 for records that came to another partition than their key's
Guarantees: a request is charged once and answered the same way for ever; no window is over its limit.
Fails:      bad content is answered `invalid`; bytes without ids go to the dead letters; while Postgres or Kafka is
            away nothing is decided and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapters.admission_state import ended_of, fit_state, load_state
from adapters.books import known_generations, lock_accounts, write_admissions
from adapters.postgres import Connection
from models import admission, answers, topics
from models.admission import PartitionState
from models.operations import OPERATIONS, POLICIES, Policy
from models.outputs import Output, Record
from models.requests import MalformedRequest, Request, read_request
from models.routing import Misrouted
from streams.decided import count_admission
from streams.delivery import Batch
from streams.partitioning import is_at_home


class AdmitStep:
    """The admission step. `policies_now` returns the policies that hold, or raises Unavailable when not known yet."""

    stream = "admit"
    topic = topics.REQUESTED
    decision_type = admission.Decision

    def __init__(self, partitions: int, policies_now: Callable[[], Mapping[str, Policy]] = lambda: POLICIES) -> None:
        self._partitions = partitions
        self._policies_now = policies_now

    def read(self, record: Record) -> admission.Input:
        """A request, a malformed or misrouted one, or Unreadable."""
        request = read_request(record.key, record.value)
        if type(request) is Request:
            return request if is_at_home(record, request.user_id, self._partitions) else Misrouted()
        if type(request) is MalformedRequest and record.key == request.user_id.encode():
            return request if is_at_home(record, request.user_id, self._partitions) else Misrouted()
        return request

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> PartitionState:
        """What limits the partition's admissions, from the rows of its admitted requests."""
        return await load_state(connection, partition, clock_ms, self._policies_now())

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[admission.Decision], int]:
        """Lock the accounts, look up known requests, decide, write."""
        requests = [entry for entry in batch.inputs if type(entry) is Request]
        policies = dict(self._policies_now())
        await fit_state(connection, batch.state, batch.partition, batch.clock_ms, policies)
        facts = admission.Facts(
            accounts=await lock_accounts(connection, {request.user_id for request in requests}),
            known=await known_generations(connection, {(request.user_id, request.request_id) for request in requests}),
        )
        await self._find_ended(connection, batch.state, requests, policies)
        decisions, effects, clock_ms = admission.decide(
            batch.records, batch.inputs, facts, batch.state, policies, batch.clock_ms
        )
        await write_admissions(connection, effects, batch.partition)
        count_admission(batch.afterwards, batch.records, decisions, effects.entries, effects.shadowed)
        return decisions, clock_ms

    async def _find_ended(
        self,
        connection: Connection,
        state: PartitionState,
        requests: Sequence[Request],
        policies: Mapping[str, Policy],
    ) -> None:
        """Before a cap refuses somebody: which of that user's requests have ended meanwhile?"""
        if not any(policy.max_in_flight for policy in policies.values()):
            return
        asked = [(OPERATIONS[request.operation].policy.name, request.user_id) for request in requests]
        doubtful = state.in_flight.doubtful(asked, policies)
        if doubtful:
            state.in_flight.forget(await ended_of(connection, doubtful))

    def render(
        self, records: Sequence[Record], inputs: Sequence[admission.Input], decisions: Sequence[admission.Decision]
    ) -> list[Output]:
        """The answers."""
        return answers.render(records, inputs, decisions)
