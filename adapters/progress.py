"""How far each stream has been handled: the rows that make a step happen once."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres import Connection
from adapters.queries import load_queries

_sql = load_queries("progress")


@dataclass(frozen=True, slots=True)
class Progress:
    """Records below next_offset are decided; those in [prev_offset, next_offset) may not all be published.

    `decisions` are the packed decisions of that last batch, `clock_ms` the partition's broker time.
    """

    prev_offset: int
    next_offset: int
    clock_ms: int
    decisions: bytes


async def read_progress(connection: Connection, stream: str, partition: int) -> Progress:
    """The partition's progress; made at offset 0 if there is none yet."""
    await connection.execute(_sql["make_progress"], stream, partition)
    row = await connection.fetchrow(_sql["read_progress"], stream, partition)
    assert row is not None
    return Progress(*row)


async def lock_progress(connection: Connection, stream: str, partition: int) -> int | None:
    """Wait for whoever else works on the partition; return next_offset as it is then, None if the row is gone."""
    next_offset: int | None = await connection.fetchval(_sql["lock_progress"], stream, partition)
    return next_offset


async def write_progress(
    connection: Connection, stream: str, partition: int, *, next_offset: int, clock_ms: int, decisions: bytes
) -> None:
    """Move on by one batch; what was next_offset becomes prev_offset."""
    await connection.execute(_sql["write_progress"], stream, partition, next_offset, clock_ms, decisions)
