"""adapters/sql/books.sql, admission_state.sql and progress.sql."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from models.grants import KINDS
from simulation.fakes.tables import Row, Transaction
from simulation.statements.registry import COPY_DEFAULTS, Record, record_of, statement

ENDED = ("completed", "failed", "cancelled")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_plain = record_of()


def lines(text: str) -> list[str]:
    """string_to_array(text, E'\\n'): of an empty text no element."""
    return text.split("\n") if text else []


@statement("progress", "make_progress")
async def make_progress(held: Transaction, stream: str, partition: int) -> list[Any]:
    row = {"stream": stream, "partition": partition, "prev_offset": 0, "next_offset": 0, "clock_ms": 0}
    await held.insert("stream_progress", row | {"decisions": b""}, unless_there=True)
    return []


@statement("progress", "read_progress")
async def read_progress(held: Transaction, stream: str, partition: int) -> list[Any]:
    row = held.get("stream_progress", (stream, partition))
    if row is None:
        return []
    return [_plain(row["prev_offset"], row["next_offset"], row["clock_ms"], row["decisions"])]


@statement("progress", "lock_progress")
async def lock_progress(held: Transaction, stream: str, partition: int) -> list[Any]:
    row = await held.lock("stream_progress", (stream, partition))
    return [] if row is None else [_plain(row["next_offset"])]


@statement("progress", "write_progress")
async def write_progress(
    held: Transaction, stream: str, partition: int, next_offset: int, clock_ms: int, decisions: bytes
) -> list[Any]:
    row = await held.lock("stream_progress", (stream, partition))
    if row is not None:
        changes = {"prev_offset": row["next_offset"], "next_offset": next_offset}
        held.update("stream_progress", row, **changes, clock_ms=clock_ms, decisions=decisions)
    return []


@statement("books", "lock_accounts")
async def lock_accounts(held: Transaction, user_ids: str) -> list[Any]:
    found = []
    for user_id in sorted(set(lines(user_ids))):
        if held.get("accounts", (user_id,)) is None:
            continue
        row = await held.lock("accounts", (user_id,))
        if row is not None:
            found.append(_plain(user_id, row["balance"], row["version"], row["unlimited"]))
    return found


@statement("books", "read_balances")
async def read_balances(held: Transaction, user_ids: str) -> list[Any]:
    rows = [held.get("accounts", (user_id,)) for user_id in sorted(set(lines(user_ids)))]
    return [_plain(row["user_id"], row["balance"], row["version"], row["unlimited"]) for row in rows if row]


@statement("books", "make_accounts")
async def make_accounts(held: Transaction, user_ids: str) -> list[Any]:
    for user_id in sorted(set(lines(user_ids))):
        row = {"user_id": user_id, "balance": 0, "version": 0, "unlimited": False}
        await held.insert("accounts", row, unless_there=True)
    return []


@statement("books", "move_accounts")
async def move_accounts(held: Transaction, user_ids: str, balances: str, versions: str) -> list[Any]:
    for user_id, balance, version in zip(lines(user_ids), lines(balances), lines(versions), strict=True):
        row = await held.lock("accounts", (user_id,))
        if row is not None:
            held.update("accounts", row, balance=int(balance), version=int(version))
    return []


@statement("books", "known_generations")
async def known_generations(held: Transaction, user_ids: str, request_ids: str) -> list[Any]:
    names = ("user_id", "request_id", "operation", "prompt", "options", "context", "cost", "balance", "version")
    found = []
    for key in zip(lines(user_ids), lines(request_ids), strict=True):
        row = held.get("generations", key)
        if row is not None:
            found.append(_plain(*(row[name] for name in names), row["admitted_at_ms"]))
    return found


@statement("books", "known_grants")
async def known_grants(held: Transaction, grant_ids: Sequence[str]) -> list[Any]:
    found = []
    for grant_id in dict.fromkeys(grant_ids):
        for kind in KINDS:
            row = held.get("ledger", (grant_id, kind))
            if row is not None:
                found.append(_plain(grant_id, row["user_id"], row["amount"], kind))
    return found


_ENTRY = ("user_id", "amount", "kind", "reference_id", "balance_after", "version")
_GENERATION = (
    *("user_id", "request_id", "operation", "cost", "balance", "version", "admitted_at_ms", "prompt", "options"),
    *("context", "partition", "window_limit", "window_s"),
)


@statement("books", "write_admissions")
async def write_admissions(held: Transaction, *given: Any) -> list[Any]:
    entries, accounts, ids = given[:6], given[6:9], [lines(text) for text in given[9:16]]
    users, amounts, kinds, references, balances, versions = (lines(text) for text in entries)
    for row in zip(users, map(int, amounts), kinds, references, map(int, balances), map(int, versions), strict=True):
        await held.insert("ledger", dict(zip(_ENTRY, row, strict=True)))
    await move_accounts(held, *accounts)
    limits, windows = ([int(text) if text else None for text in given[place].split("\n")] for place in (20, 21))
    numbers = [list(map(int, column)) for column in ids[3:]]
    columns = [*ids[:3], *numbers, given[16], given[17], given[18], [given[19]] * len(ids[0]), limits, windows]
    for row in zip(*columns, strict=True):
        await held.insert("generations", _new_generation(dict(zip(_GENERATION, row, strict=True))))
    return []


def _new_generation(row: Row) -> Row:
    absent = dict.fromkeys(
        (
            *("due_at", "lease_until", "prediction_id", "output_urls", "queued_at", "submitted_at", "running_at"),
            *("storing_at", "finished_at", "reason", "model", "trigger_word", "cancel_requested_at"),
            "traceparent",
        )
    )
    return {**absent, "state": "admitted", "attempts": 0, "refunded": 0, **row}


def _copied_generation(held: Transaction, row: Row) -> Row:
    admitted_at_ms = (row.pop("admitted_at") - _EPOCH) // timedelta(milliseconds=1)
    return _new_generation(row | {"admitted_at_ms": admitted_at_ms})


COPY_DEFAULTS["ledger"] = lambda held, row: row
COPY_DEFAULTS["generations"] = _copied_generation


@statement("admission_state", "admissions_since")
async def admissions_since(
    held: Transaction, partition: int, operations: Sequence[str], since_ms: Sequence[int], earliest_ms: int
) -> list[Any]:
    since = dict(zip(operations, since_ms, strict=True))
    rows = [
        row
        for row in held.scan("generations")
        if row["partition"] == partition
        and row["admitted_at_ms"] > max(since.get(row["operation"], 1 << 62), earliest_ms)
    ]
    return [_three(row) for row in sorted(rows, key=lambda row: row["admitted_at_ms"])]


def _three(row: Row) -> Record:
    return _plain(row["user_id"], row["operation"], row["admitted_at_ms"])


@statement("admission_state", "in_flight_since")
async def in_flight_since(held: Transaction, partition: int, operations: Sequence[str], since_ms: int) -> list[Any]:
    rows = [
        row
        for row in held.scan("generations")
        if row["partition"] == partition and row["operation"] in operations and row["admitted_at_ms"] > since_ms
        if row["state"] not in ENDED
    ]
    rows.sort(key=lambda row: row["admitted_at_ms"])
    return [_plain(row["user_id"], row["request_id"], row["operation"], row["admitted_at_ms"]) for row in rows]


@statement("admission_state", "ended_of")
async def ended_of(held: Transaction, user_ids: Sequence[str], request_ids: Sequence[str]) -> list[Any]:
    rows = [held.get("generations", key) for key in zip(user_ids, request_ids, strict=True)]
    return [_plain(row["user_id"], row["request_id"]) for row in rows if row is not None and row["state"] in ENDED]
