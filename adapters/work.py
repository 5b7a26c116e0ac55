"""The work queue that generations rows are: claims, leases, the provider's pace. States are decided by agents.

A claim is a short transaction; whatever is slow happens after it, under the row's lease.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from adapters.postgres import Connection, Pool, connection, transaction
from adapters.queries import load_queries
from models.operations import DEADLINES_S, LONGEST_DEADLINE_S, OPERATIONS, Kind
from models.pacing import Pace
from models.pictures import StoringWork
from models.provider_work import Model, Models, Work
from models.requests import Options

CREATE_PACE = "create"
READ_PACE = "read"

_sql = load_queries("work")
_options = msgspec.json.Decoder(Options)


async def is_any_queued(pool: Pool) -> bool:
    """Whether the dispatcher has something to claim."""
    async with connection(pool) as held:
        return bool(await held.fetchval(_sql["any_queued"]))


class Round(NamedTuple):
    """What the dispatcher may submit now.

    `started` is how much was begun within the last hour, over all workers, and `is_broken_off` whether the spend
    breaker therefore holds the queue; None when that was not looked at.
    """

    works: list[Work]
    started: int = 0
    is_broken_off: bool | None = None


async def claim_queued(
    held: Connection,
    pace: Pace,
    models: Models,
    *,
    wanted: int,
    per_user_max: int,
    per_hour_max: int,
    lease_s: float,
    look_after_s: float,
    deadlines_s: Mapping[str, float] = DEADLINES_S,
) -> Round:
    """queued -> submitting for as many as pace and breaker allow, fairly, in the caller's transaction: the intent.

    `per_hour_max` 0 is no breaker. `look_after_s`: when the reconciler should ask what became of them. Empty while
    another worker is claiming.
    """
    row = await _lock_pace(held, CREATE_PACE)
    if row is None:
        return Round([])
    granted = pace.granted(row["next_at_s"], row["now_s"], wanted)
    if not granted:
        return Round([])
    # Under the pace's lock, so that no other worker begins anything between counting and claiming.
    started: int = await held.fetchval(_sql["started_lately"])
    if per_hour_max:
        granted = min(granted, per_hour_max - started)
        if granted <= 0:
            return Round([], started, is_broken_off=True)
    rows = await held.fetch(
        _sql["claim_queued"],
        granted,
        per_user_max,
        lease_s,
        look_after_s,
        list(OPERATIONS),
        [models.reference_for(operation.kind) for operation in OPERATIONS.values()],
        [operation.kind is Kind.IMAGES for operation in OPERATIONS.values()],
        [deadlines_s[name] for name in OPERATIONS],
    )
    if rows:
        await held.execute(_sql["write_pace"], CREATE_PACE, pace.next_at_s(row["next_at_s"], row["now_s"], len(rows)))
    return Round([_work(row) for row in rows], started + len(rows), is_broken_off=False)


async def hold_pace(pool: Pool, pace: Pace, hold_s: float) -> None:
    """Let no worker create anything for a while: the provider has asked for it."""
    async with transaction(pool) as held:
        row = await held.fetchrow(_sql["read_pace"], CREATE_PACE)
        if row is not None:
            until_s = pace.held_until_s(row["next_at_s"], row["now_s"], hold_s)
            await held.execute(_sql["write_pace"], CREATE_PACE, until_s)


async def keep_prediction(pool: Pool, work: Work, prediction_id: str, *, look_after_s: float) -> str | None:
    """Write down which run is the request's. Returns the id that is: another one if the request has its run already,
    None if it ended without any."""
    async with transaction(pool) as held:
        if await held.fetchval(_sql["keep_prediction"], *work.identity, prediction_id, look_after_s) is not None:
            return prediction_id
        kept: str | None = await held.fetchval(_sql["prediction_of"], *work.identity)
        return kept


async def hand_back(pool: Pool, work: Work, *, delay_s: float) -> bool:
    """submitting -> queued, due after `delay_s`; whether the row was still this attempt's."""
    async with connection(pool) as held:
        return bool(await held.fetchval(_sql["hand_back"], *work.identity, work.attempt, delay_s))


async def look_soon(pool: Pool, work: Work, *, delay_s: float) -> None:
    """Let the reconciler find out after `delay_s` what became of this attempt."""
    async with connection(pool) as held:
        await held.execute(_sql["look_soon"], *work.identity, work.attempt, delay_s)


async def give_start_back(pool: Pool, work: Work) -> None:
    """What the provider has refused does not count as begun."""
    async with connection(pool) as held:
        await held.execute(_sql["give_start_back"], *work.identity)


async def mark_cancelled(held: Connection, identities: Collection[tuple[str, str]]) -> None:
    """Have the runs of these (user_id, request_id) stopped, in the caller's transaction."""
    if identities:
        await held.execute(
            _sql["mark_cancelled"], [user for user, _ in identities], [request for _, request in identities]
        )


async def claim_overdue(
    held: Connection, pace: Pace, *, wanted: int, lease_s: float, look_after_s: float
) -> list[Work]:
    """Lease requests of which nothing was heard in time, as many as the pace of reading allows."""
    row = await _lock_pace(held, READ_PACE)
    if row is None:
        return []
    granted = pace.granted(row["next_at_s"], row["now_s"], wanted)
    if not granted:
        return []
    rows = await held.fetch(_sql["claim_overdue"], granted, lease_s, look_after_s, list(OPERATIONS))
    if rows:
        await held.execute(_sql["write_pace"], READ_PACE, pace.next_at_s(row["next_at_s"], row["now_s"], len(rows)))
    return [_work(row) for row in rows]


async def release_overdue(pool: Pool, works: Sequence[Work]) -> None:
    """Give the leases of `claim_overdue` back."""
    async with connection(pool) as held:
        await held.execute(
            _sql["release_overdue"], [work.user_id for work in works], [work.request_id for work in works]
        )


async def claim_given_up(
    pool: Pool, *, wanted: int, look_after_s: float, deadlines_s: Mapping[str, float] = DEADLINES_S
) -> list[Work]:
    """Queued requests that are not to be submitted any more; they are not shown again before `look_after_s`."""
    operations, deadlines = list(deadlines_s), list(deadlines_s.values())
    async with transaction(pool) as held:
        rows = await held.fetch(_sql["claim_given_up"], wanted, operations, deadlines, LONGEST_DEADLINE_S, look_after_s)
        return [_work(row) for row in rows]


async def taken_predictions(pool: Pool, prediction_ids: Collection[str]) -> set[str]:
    """Those of these ids that belong to a request already."""
    async with connection(pool) as held:
        return {row["prediction_id"] for row in await held.fetch(_sql["taken_predictions"], list(prediction_ids))}


async def read_rivals(pool: Pool, works: Sequence[Work]) -> list[Work]:
    """Requests that may ask for the same as these, and may have a run which nobody knows of yet."""
    trainings = [work.operation for work in works if work.kind is Kind.TRAINING]
    async with connection(pool) as held:
        rows = await held.fetch(_sql["rivals"], [work.prompt for work in works], list(OPERATIONS), trainings)
        return [_work(row) for row in rows]


async def forget_service(pool: Pool) -> None:
    """Drop what is older than fairness and the spend breaker need to remember."""
    async with connection(pool) as held:
        await held.execute(_sql["forget_service"])
        await held.execute(_sql["forget_starts"])


async def claim_storing(held: Connection, *, wanted: int, lease_s: float) -> list[StoringWork]:
    """Lease requests whose outputs are to be kept, in the caller's transaction."""
    return [
        StoringWork(
            row["user_id"],
            row["request_id"],
            row["operation"],
            _options.decode(row["options"]),
            row["prediction_id"] or "",
            msgspec.json.decode(row["output_urls"] or "[]", type=list[str]),
            row["attempts"],
            row["age_s"],
            row["storing_at_s"],
            row["traceparent"],
        )
        for row in await held.fetch(_sql["claim_storing"], wanted, lease_s)
    ]


async def renew_storing(pool: Pool, works: Collection[StoringWork], *, lease_s: float) -> None:
    """Lengthen the leases of work that is still in hand."""
    async with connection(pool) as held:
        await held.execute(
            _sql["renew_storing"],
            [work.user_id for work in works],
            [work.request_id for work in works],
            [work.attempt for work in works],
            lease_s,
        )


async def put_off_storing(pool: Pool, work: StoringWork, *, delay_s: float) -> None:
    """Give the lease back; the row is due again after `delay_s`."""
    async with connection(pool) as held:
        await held.execute(_sql["put_off_storing"], work.user_id, work.request_id, work.attempt, delay_s)


async def _lock_pace(held: Connection, name: str) -> asyncpg.Record | None:
    """The pace, locked; None while another worker holds it."""
    row = await held.fetchrow(_sql["lock_pace"], name)
    if row is None:
        await held.execute(_sql["make_pace"], name)
        row = await held.fetchrow(_sql["lock_pace"], name)
    return row


def _work(row: asyncpg.Record) -> Work:
    return Work(
        row["user_id"],
        row["request_id"],
        row["operation"],
        row["prompt"],
        _options.decode(row["options"]),
        Model(row["model"] or "", row["trigger_word"] or ""),
        row["state"],
        row["attempts"],
        row["submitted_at_s"] or 0.0,
        row["age_s"],
        row["prediction_id"],
        row["is_cancelled"],
        row["traceparent"],
    )
