"""adapters/sql/work.sql: the queue that generations are, its leases and its pace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from simulation.fakes.tables import Row, Transaction
from simulation.statements.fulfilment import clock_s, locked_if
from simulation.statements.registry import record_of, statement

Texts = Sequence[str]

_plain = record_of()
_pace = record_of("next_at_s", "now_s")
_WORK = (
    *("user_id", "request_id", "operation", "prompt", "options", "model", "trigger_word", "state", "prediction_id"),
    "traceparent",
)
_work = record_of(*_WORK, "attempts", "is_cancelled", "submitted_at_s", "age_s")


def age_s_of(held: Transaction, row: Row) -> float:
    """How long ago the request was queued, or admitted."""
    began_s: float = row["admitted_at_ms"] / 1000 if row["queued_at"] is None else row["queued_at"]
    return held.now_s - began_s


def as_work(row: Row, age_s: float) -> Any:
    """The columns that a Work is made from."""
    is_cancelled = row["cancel_requested_at"] is not None
    return _work(*(row[name] for name in _WORK), row["attempts"], is_cancelled, row["submitted_at"] or 0.0, age_s)


@statement("work", "any_queued")
async def any_queued(held: Transaction) -> list[Any]:
    return [_plain(any(row["state"] == "queued" and row["due_at"] <= held.now_s for row in held.scan("generations")))]


@statement("work", "make_pace")
async def make_pace(held: Transaction, name: str) -> list[Any]:
    await held.insert("provider_pace", {"name": name, "next_at": held.now_s}, unless_there=True)
    return []


@statement("work", "lock_pace")
async def lock_pace(held: Transaction, name: str) -> list[Any]:
    row = held.get("provider_pace", (name,))
    if row is None or not held.try_lock("provider_pace", (name,)):
        return []
    return [_pace(row["next_at"], clock_s())]


@statement("work", "read_pace")
async def read_pace(held: Transaction, name: str) -> list[Any]:
    row = await held.lock("provider_pace", (name,))
    return [] if row is None else [_pace(row["next_at"], clock_s())]


@statement("work", "write_pace")
async def write_pace(held: Transaction, name: str, next_at_s: float) -> list[Any]:
    row = await held.lock("provider_pace", (name,))
    if row is not None:
        held.update("provider_pace", row, next_at=next_at_s)
    return []


@statement("work", "claim_queued")
async def claim_queued(
    held: Transaction,
    wanted: int,
    per_user_max: int,
    lease_s: float,
    look_after_s: float,
    operations: Texts,
    references: Texts,
    are_personal: Sequence[bool],
    deadlines_s: Sequence[float],
) -> list[Any]:
    offered = dict(zip(operations, zip(references, are_personal, deadlines_s, strict=True), strict=True))
    waiting = [
        row
        for row in held.scan("generations")
        if row["state"] == "queued" and row["due_at"] <= held.now_s and row["cancel_requested_at"] is None
        if row["operation"] in offered and age_s_of(held, row) < offered[row["operation"]][2]
    ]
    claimed = []
    for row in _in_turn(held, waiting, per_user_max)[:wanted]:
        key = (row["user_id"], row["request_id"])
        if row["prediction_id"] is None and held.try_lock("generations", key):
            reference, is_personal, _ = offered[row["operation"]]
            own = held.get("user_models", (row["user_id"],)) if is_personal else None
            changed = held.update(
                "generations",
                row,
                state="submitting",
                attempts=row["attempts"] + 1,
                submitted_at=held.now_s,
                lease_until=held.now_s + lease_s,
                due_at=held.now_s + look_after_s,
                model=row["model"] or (own["version"] if own else reference),
                trigger_word=row["trigger_word"] if row["trigger_word"] is not None else _word(own),
            )
            claimed.append(as_work(changed, age_s_of(held, row)))
    await _note_claims(held, [row["user_id"] for row in claimed])
    return claimed


def _word(own: Row | None) -> str:
    return own["trigger_word"] if own else ""


def _in_turn(held: Transaction, waiting: list[Row], per_user_max: int) -> list[Row]:
    turns: Counter[str] = Counter()
    ranked = []
    for row in sorted(waiting, key=lambda row: (row["queued_at"], row["request_id"])):
        turns[row["user_id"]] += 1
        served = held.get("provider_service", (row["user_id"],))
        if turns[row["user_id"]] <= per_user_max:
            ranked.append((turns[row["user_id"]], served["served_at"] if served else 0.0, row["queued_at"], row))
    ranked.sort(key=lambda one: one[:3])
    return [row for *_, row in ranked]


async def _note_claims(held: Transaction, users: list[str]) -> None:
    for user_id in sorted(set(users)):
        row = {"user_id": user_id, "served_at": held.now_s}
        if not await held.insert("provider_service", row, unless_there=True):
            held.put("provider_service", (user_id,), row)
    if users:
        minute = _minute(held.now_s)
        if not await held.insert("provider_starts", {"minute": minute, "started": len(users)}, unless_there=True):
            await _add_starts(held, minute, len(users))


def _minute(at_s: float) -> int:
    return int(at_s // 60 * 60)


async def _add_starts(held: Transaction, minute: int, more: int) -> None:
    row = await held.lock("provider_starts", (minute,))
    if row is not None:
        held.update("provider_starts", row, started=row["started"] + more)


@statement("work", "started_lately")
async def started_lately(held: Transaction) -> list[Any]:
    since = _minute(held.now_s - 3600)
    return [_plain(sum(row["started"] for row in held.scan("provider_starts") if row["minute"] >= since))]


@statement("work", "give_start_back")
async def give_start_back(held: Transaction, user_id: str, request_id: str) -> list[Any]:
    row = held.get("generations", (user_id, request_id))
    if row is not None and row["submitted_at"] is not None:
        await _add_starts(held, _minute(row["submitted_at"]), -1)
    return []


@statement("work", "keep_prediction")
async def keep_prediction(
    held: Transaction, user_id: str, request_id: str, prediction_id: str, look_after_s: float
) -> list[Any]:
    def may_have_it(row: Row) -> bool:
        return row["state"] in ("queued", "submitting", "running") and row["prediction_id"] in (None, prediction_id)

    row = await locked_if(held, (user_id, request_id), may_have_it)
    if row is None:
        return []
    state = "submitting" if row["state"] == "queued" else row["state"]
    due_at = held.now_s + look_after_s if row["cancel_requested_at"] is None else held.now_s
    held.update("generations", row, prediction_id=prediction_id, state=state, lease_until=None, due_at=due_at)
    return [_plain(state)]


@statement("work", "prediction_of")
async def prediction_of(held: Transaction, user_id: str, request_id: str) -> list[Any]:
    row = held.get("generations", (user_id, request_id))
    return [] if row is None else [_plain(row["prediction_id"])]


def _is_attempt(attempt: int) -> Callable[[Row], bool]:
    return lambda row: row["attempts"] == attempt and row["state"] == "submitting" and row["prediction_id"] is None


@statement("work", "look_soon")
async def look_soon(held: Transaction, user_id: str, request_id: str, attempt: int, delay_s: float) -> list[Any]:
    row = await locked_if(held, (user_id, request_id), _is_attempt(attempt))
    if row is not None:
        held.update("generations", row, lease_until=None, due_at=held.now_s + delay_s)
    return []


@statement("work", "hand_back")
async def hand_back(held: Transaction, user_id: str, request_id: str, attempt: int, delay_s: float) -> list[Any]:
    row = await locked_if(held, (user_id, request_id), _is_attempt(attempt))
    if row is None:
        return []
    due_at = held.now_s + delay_s if row["cancel_requested_at"] is None else held.now_s
    held.update("generations", row, state="queued", lease_until=None, due_at=due_at)
    await _add_starts(held, _minute(row["submitted_at"]), -1)
    return [_plain(True)]


@statement("work", "mark_cancelled")
async def mark_cancelled(held: Transaction, user_ids: Texts, request_ids: Texts) -> list[Any]:
    for key in zip(user_ids, request_ids, strict=True):
        row = await locked_if(held, key, lambda row: row["state"] in ("submitting", "running"))
        if row is not None:
            asked_at = row["cancel_requested_at"] or held.now_s
            due_at = row["due_at"] if row["prediction_id"] is None else held.now_s
            held.update("generations", row, cancel_requested_at=asked_at, due_at=due_at)
    return []
