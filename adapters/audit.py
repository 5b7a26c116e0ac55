"""Auditing the books: every invariant of models/audit.py, counted over one consistent snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from adapters.postgres import CONNECT_TIMEOUT_S, Connection, mapped_errors
from adapters.queries import load_queries
from models.audit import DEADLINE_SLACK_S, Findings
from models.operations import LONGEST_DEADLINE_S, OPERATIONS, Kind, Operation

TIMEOUT_S = 600.0

_sql = load_queries("audit")
_EXAMPLE = "_example"


class _Window(NamedTuple):
    """A policy's operations, each with its weight, and one of the windows that were enforced."""

    operations: list[str]
    weights: list[int]
    window_s: int


async def audit(postgres_url: str, *, operations: Iterable[Operation] = OPERATIONS.values()) -> Findings:
    """Count every invariant's violations. Reads only, and disturbs nobody.

    Raises Unavailable: the server is away, or the audit takes longer than TIMEOUT_S.
    """
    with mapped_errors():
        connection = await asyncpg.connect(
            postgres_url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=TIMEOUT_S,
            # Sorting and hashing a large ledger should not go by way of the disk.
            server_settings={
                "application_name": "darkroom-audit",
                "timezone": "UTC",
                "work_mem": "256MB",
                "jit": "off",
            },
        )
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await audit_snapshot(connection, operations)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)


async def audit_snapshot(connection: Connection, operations: Iterable[Operation]) -> Findings:
    """The same within a transaction of the caller's."""
    findings = Findings()
    operations = list(operations)
    names = [operation.name for operation in operations]
    trainings = [operation.name for operation in operations if operation.kind is Kind.TRAINING]
    for name in ("accounts", "chain", "charges", "refunds", "predictions", "outputs", "letters", "progress"):
        _add(findings, await connection.fetchrow(_sql[name]))
    for name in ("gallery", "models"):
        _add(findings, await connection.fetchrow(_sql[name], trainings))
    oldest = [_oldest(operation.deadline_s) for operation in operations]
    _add(findings, await connection.fetchrow(_sql["states"], names, oldest, _oldest(LONGEST_DEADLINE_S)))
    enforced = {(row["operation"], row["window_s"]) for row in await connection.fetch(_sql["enforced_windows"])}
    for window in _windows(operations, enforced):
        _add(findings, await connection.fetchrow(_sql["window"], window.operations, window.weights, window.window_s))
    return findings


def _oldest(deadline_s: float) -> timedelta:
    return timedelta(seconds=deadline_s + DEADLINE_SLACK_S)


def _add(findings: Findings, row: asyncpg.Record | None) -> None:
    assert row is not None
    for name, value in row.items():
        if not name.endswith(_EXAMPLE):
            findings.add(name, value, row[name + _EXAMPLE])


def _windows(operations: Iterable[Operation], enforced: Collection[tuple[str, int]]) -> Iterator[_Window]:
    by_policy: dict[str, list[Operation]] = {}
    for operation in operations:
        by_policy.setdefault(operation.policy.name, []).append(operation)
    for group in by_policy.values():
        names = [operation.name for operation in group]
        for window_s in sorted({window_s for name, window_s in enforced if name in names}):
            yield _Window(names, [operation.policy.weight for operation in group], window_s)
