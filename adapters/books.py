"""Accounts, ledger and generations in Postgres: reads that lock, writes in bulk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from adapters.postgres import Connection
from adapters.queries import load_queries
from models.accounts import Account, LedgerEntry
from models.admission import Admission, Effects
from models.caching import Balance

COPIED_ROWS_MIN = 100

_sql = load_queries("books")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GENERATION_COLUMNS = (
    *("user_id", "request_id", "operation", "cost", "balance", "version", "prompt", "options", "context"),
    *("partition", "admitted_at", "window_limit", "window_s"),
)


async def lock_accounts(connection: Connection, user_ids: Iterable[str]) -> dict[str, Account]:
    """Lock these users' accounts in key order until the transaction ends; users without one are left out."""
    rows = await connection.fetch(_sql["lock_accounts"], "\n".join(user_ids))
    return {row[0]: Account(row[0], row[1], row[2], row[3]) for row in rows}


async def read_balances(connection: Connection, user_ids: Iterable[str]) -> dict[str, Balance]:
    """The committed balances of these users, locking nothing; users without an account are left out."""
    rows = await connection.fetch(_sql["read_balances"], "\n".join(user_ids))
    return {row[0]: Balance(row[0], row[1], row[2], row[3]) for row in rows}


async def make_accounts(connection: Connection, user_ids: Iterable[str]) -> None:
    """Make empty accounts for users who have none."""
    await connection.execute(_sql["make_accounts"], "\n".join(user_ids))


async def known_generations(
    connection: Connection, identities: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Admission]:
    """Which of these (user_id, request_id) are admitted already, and how they were answered."""
    rows = await connection.fetch(
        _sql["known_generations"],
        "\n".join([user for user, _ in identities]),
        "\n".join([request for _, request in identities]),
    )
    known = {}
    for user_id, request_id, operation, prompt, options, context, cost, balance, version, admitted_at_ms in rows:
        known[user_id, request_id] = Admission(
            *(user_id, request_id, operation, cost, balance, version, prompt, options.encode()),
            None if context is None else context.encode(),
            admitted_at_ms,
        )
    return known


async def known_grants(connection: Connection, grant_ids: Iterable[str]) -> dict[str, tuple[str, int, str]]:
    """grant_id -> (user_id, amount, kind) of those that are booked."""
    rows = await connection.fetch(_sql["known_grants"], list(grant_ids))
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


async def write_entries(connection: Connection, entries: Sequence[LedgerEntry], changed: Collection[Account]) -> None:
    """Append ledger entries and set the accounts they moved to their last balance and version."""
    if not entries:
        return
    await connection.copy_records_to_table(
        "ledger", records=[msgspec.structs.astuple(entry) for entry in entries], columns=LedgerEntry.__struct_fields__
    )
    await connection.execute(
        _sql["move_accounts"],
        "\n".join([account.user_id for account in changed]),
        "\n".join([str(account.balance) for account in changed]),
        "\n".join([str(account.version) for account in changed]),
    )


async def write_admissions(connection: Connection, effects: Effects, partition: int) -> None:
    """Write a batch's entries, accounts and new generations.

    A large batch is copied, which costs both sides less for each row; a small one goes in one round trip.
    """
    if len(effects.generations) >= COPIED_ROWS_MIN:
        await write_entries(connection, effects.entries, effects.changed.values())
        await _copy_generations(connection, effects.generations, partition)
    elif effects.generations:
        await _insert_admissions(connection, effects, partition)


async def _copy_generations(connection: Connection, rows: Sequence[Admission], partition: int) -> None:
    # Records of one Kafka batch share their moment, so few of them are made.
    moments = {at_ms: _EPOCH + timedelta(milliseconds=at_ms) for at_ms in {row.admitted_at_ms for row in rows}}
    records = [
        (
            row.user_id,
            row.request_id,
            row.operation,
            row.cost,
            row.balance,
            row.version,
            row.prompt,
            row.options.decode(),
            None if row.context is None else row.context.decode(),
            partition,
            moments[row.admitted_at_ms],
            row.window_limit,
            row.window_s,
        )
        for row in rows
    ]
    await connection.copy_records_to_table("generations", records=records, columns=_GENERATION_COLUMNS)


async def _insert_admissions(connection: Connection, effects: Effects, partition: int) -> None:
    rows, entries, changed = effects.generations, effects.entries, effects.changed.values()
    await connection.execute(
        _sql["write_admissions"],
        _lines([entry.user_id for entry in entries]),
        _lines([str(entry.amount) for entry in entries]),
        _lines([entry.kind for entry in entries]),
        _lines([entry.reference_id for entry in entries]),
        _lines([str(entry.balance_after) for entry in entries]),
        _lines([str(entry.version) for entry in entries]),
        _lines([account.user_id for account in changed]),
        _lines([str(account.balance) for account in changed]),
        _lines([str(account.version) for account in changed]),
        _lines([row.user_id for row in rows]),
        _lines([row.request_id for row in rows]),
        _lines([row.operation for row in rows]),
        _lines([str(row.cost) for row in rows]),
        _lines([str(row.balance) for row in rows]),
        _lines([str(row.version) for row in rows]),
        _lines([str(row.admitted_at_ms) for row in rows]),
        [row.prompt for row in rows],
        [row.options.decode() for row in rows],
        [None if row.context is None else row.context.decode() for row in rows],
        partition,
        _lines(["" if row.window_limit is None else str(row.window_limit) for row in rows]),
        _lines(["" if row.window_s is None else str(row.window_s) for row in rows]),
    )


def _lines(texts: list[str]) -> str:
    return "\n".join(texts)
