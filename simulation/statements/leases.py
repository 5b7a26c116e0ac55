"""adapters/sql/work.sql, the rest: what reconciler and keeper lease, and what they ask about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simulation.fakes.tables import Row, Transaction
from simulation.statements.fulfilment import locked_if
from simulation.statements.registry import record_of, statement
from simulation.statements.work import age_s_of, as_work

Texts = Sequence[str]

_plain = record_of()
_storing = record_of(
    *(
        "user_id",
        "request_id",
        "operation",
        "options",
        "prediction_id",
        "output_urls",
        "attempts",
        "traceparent",
        "age_s",
    ),
    "storing_at_s",
)


def _claimed(held: Transaction, wanted: int, is_due: Callable[[Row], bool]) -> list[Row]:
    """FOR UPDATE SKIP LOCKED, what is due longest first."""
    due = sorted((row for row in held.scan("generations") if is_due(row)), key=lambda row: row["due_at"])
    taken: list[Row] = []
    for row in due:
        if len(taken) == wanted:
            break
        if held.try_lock("generations", (row["user_id"], row["request_id"])):
            taken.append(row)
    return taken


def _is_free(held: Transaction, row: Row) -> bool:
    is_leased = row["lease_until"] is not None and row["lease_until"] > held.now_s
    return row["due_at"] is not None and row["due_at"] <= held.now_s and not is_leased


@statement("work", "claim_overdue")
async def claim_overdue(
    held: Transaction, wanted: int, lease_s: float, look_after_s: float, operations: Texts
) -> list[Any]:
    def is_due(row: Row) -> bool:
        return row["state"] in ("submitting", "running") and row["operation"] in operations and _is_free(held, row)

    found = []
    for row in _claimed(held, wanted, is_due):
        changes = {"lease_until": held.now_s + lease_s, "due_at": held.now_s + look_after_s}
        found.append(as_work(held.update("generations", row, **changes), age_s_of(held, row)))
    return found


@statement("work", "release_overdue")
async def release_overdue(held: Transaction, user_ids: Texts, request_ids: Texts) -> list[Any]:
    for key in zip(user_ids, request_ids, strict=True):
        row = await locked_if(held, key, lambda row: row["state"] in ("submitting", "running"))
        if row is not None:
            held.update("generations", row, lease_until=None)
    return []


@statement("work", "claim_given_up")
async def claim_given_up(
    held: Transaction,
    wanted: int,
    operations: Texts,
    deadlines_s: Sequence[float],
    longest_s: float,
    look_after_s: float,
) -> list[Any]:
    known = dict(zip(operations, deadlines_s, strict=True))

    def is_due(row: Row) -> bool:
        if row["state"] != "queued" or row["due_at"] > held.now_s:
            return False
        is_late = age_s_of(held, row) >= known.get(row["operation"], longest_s)
        return is_late or row["cancel_requested_at"] is not None

    found = []
    for row in _claimed(held, wanted, is_due):
        changed = held.update("generations", row, due_at=held.now_s + look_after_s)
        found.append(as_work(changed, age_s_of(held, row)))
    return found


@statement("work", "taken_predictions")
async def taken_predictions(held: Transaction, prediction_ids: Texts) -> list[Any]:
    name = record_of("prediction_id")
    asked = set(prediction_ids)
    return [name(row["prediction_id"]) for row in held.scan("generations") if row["prediction_id"] in asked]


@statement("work", "rivals")
async def rivals(held: Transaction, prompts: Texts, operations: Texts, trainings: Texts) -> list[Any]:
    return [
        as_work(row, 0.0)
        for row in held.scan("generations")
        if row["state"] == "submitting" and row["prediction_id"] is None and row["operation"] in operations
        if row["prompt"] in prompts or row["operation"] in trainings
    ]


@statement("work", "forget_service")
async def forget_service(held: Transaction) -> list[Any]:
    """A run lasts no day."""
    return []


@statement("work", "forget_starts")
async def forget_starts(held: Transaction) -> list[Any]:
    """A run lasts no day."""
    return []


@statement("work", "claim_storing")
async def claim_storing(held: Transaction, wanted: int, lease_s: float) -> list[Any]:
    found = []
    for row in _claimed(held, wanted, lambda row: row["state"] == "storing" and _is_free(held, row)):
        until_s = held.now_s + lease_s
        row = held.update("generations", row, attempts=row["attempts"] + 1, lease_until=until_s, due_at=until_s)
        since_s = row["admitted_at_ms"] / 1000 if row["storing_at"] is None else row["storing_at"]
        names = (
            *("user_id", "request_id", "operation", "options", "prediction_id", "output_urls", "attempts"),
            "traceparent",
        )
        age_s = 0.0 if row["storing_at"] is None else held.now_s - row["storing_at"]
        found.append(_storing(*(row[name] for name in names), age_s, since_s))
    return found


def _keeps(attempt: int) -> Callable[[Row], bool]:
    return lambda row: row["attempts"] == attempt and row["state"] == "storing"


@statement("work", "renew_storing")
async def renew_storing(
    held: Transaction, user_ids: Texts, request_ids: Texts, attempts: Sequence[int], lease_s: float
) -> list[Any]:
    for user_id, request_id, attempt in zip(user_ids, request_ids, attempts, strict=True):
        row = await locked_if(held, (user_id, request_id), _keeps(attempt))
        if row is not None:
            held.update("generations", row, lease_until=held.now_s + lease_s, due_at=held.now_s + lease_s)
    return []


@statement("work", "put_off_storing")
async def put_off_storing(held: Transaction, user_id: str, request_id: str, attempt: int, delay_s: float) -> list[Any]:
    row = await locked_if(held, (user_id, request_id), _keeps(attempt))
    if row is not None:
        held.update("generations", row, lease_until=None, due_at=held.now_s + delay_s)
    return []
