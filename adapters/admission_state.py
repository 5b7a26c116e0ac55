"""What limits a partition's admissions, as a function of committed rows: loaded, and kept fit for changed policies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

import asyncpg

from adapters.postgres import Connection
from adapters.queries import load_queries
from models.admission import PartitionState
from models.in_flight import LONGEST_LIFE_MS, Identity
from models.operations import OPERATIONS, Policy

ROWS_AT_ONCE = 20_000

_sql = load_queries("admission_state")


async def load_state(
    connection: Connection, partition: int, clock_ms: int, policies: Mapping[str, Policy]
) -> PartitionState:
    """The partition's state at broker time `clock_ms`."""
    state = PartitionState()
    await _load_windows(connection, state, partition, clock_ms, policies.values())
    await _load_in_flight(connection, state, partition, clock_ms, [p for p in policies.values() if p.max_in_flight])
    return state


async def fit_state(
    connection: Connection, state: PartitionState, partition: int, clock_ms: int, policies: Mapping[str, Policy]
) -> None:
    """Load what policies need that were changed since: windows that have grown, caps that were not there."""
    grown = [policy for policy in policies.values() if not state.windows.keeps_enough(policy)]
    capped = []
    for policy in policies.values():
        if policy.max_in_flight is None:
            state.in_flight.stop(policy)
        elif not state.in_flight.counts(policy):
            capped.append(policy)
    if grown:
        await _load_windows(connection, state, partition, clock_ms, grown)
    if capped:
        await _load_in_flight(connection, state, partition, clock_ms, capped)


async def ended_of(connection: Connection, identities: Sequence[Identity]) -> list[Identity]:
    """Those of these requests that have ended."""
    rows = await connection.fetch(
        _sql["ended_of"], [user for user, _ in identities], [request for _, request in identities]
    )
    return [(row[0], row[1]) for row in rows]


async def _load_windows(
    connection: Connection, state: PartitionState, partition: int, clock_ms: int, policies: Collection[Policy]
) -> None:
    for policy in policies:
        state.windows.restart(policy)
    counted = _by_operation(policies)
    since_ms = [clock_ms - policy.window_ms for policy in counted.values()]
    add = state.windows.add
    arguments = (partition, list(counted), since_ms, min(since_ms))
    async for rows in _in_parts(connection, _sql["admissions_since"], *arguments):
        for user_id, operation, admitted_at_ms in rows:
            add(counted[operation], user_id, admitted_at_ms)


async def _load_in_flight(
    connection: Connection, state: PartitionState, partition: int, clock_ms: int, policies: Collection[Policy]
) -> None:
    for policy in policies:
        state.in_flight.restart(policy)
    counted = _by_operation(policies)
    if not counted:
        return
    arguments = (partition, list(counted), clock_ms - LONGEST_LIFE_MS)
    async for rows in _in_parts(connection, _sql["in_flight_since"], *arguments):
        for user_id, request_id, operation, admitted_at_ms in rows:
            state.in_flight.add(counted[operation], user_id, request_id, admitted_at_ms)


def _by_operation(policies: Iterable[Policy]) -> dict[str, Policy]:
    by_name = {policy.name: policy for policy in policies}
    return {
        name: by_name[operation.policy.name]
        for name, operation in OPERATIONS.items()
        if operation.policy.name in by_name
    }


async def _in_parts(connection: Connection, query: str, *arguments: object) -> AsyncIterator[list[asyncpg.Record]]:
    """A partition can have a million rows: neither all of them at once in memory, nor the loop held up by them."""
    async with connection.transaction():
        cursor = await connection.cursor(query, *arguments)
        while rows := await cursor.fetch(ROWS_AT_ONCE):
            yield rows
