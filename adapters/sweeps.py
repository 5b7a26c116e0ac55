"""What sweeping needs of Postgres: rounds in turn, which objects nobody has, and the marks that keepers look at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from adapters.postgres import Connection, Pool, connection
from adapters.queries import load_queries
from models.pictures import sha256_of_key
from models.sweeping import SweepMark

_sql = load_queries("sweeps")


async def claim_round(pool: Pool, *, every_s: float, flight_s: float) -> int | None:
    """The position that is to be swept now; None while it is not time, or somebody else's turn. Raises Unavailable."""
    async with connection(pool) as held:
        position: int | None = await held.fetchval(_sql["claim_round"], every_s, flight_s)
        return position


async def end_round(pool: Pool, position: int, following: int) -> None:
    """Go on with another position next time. Raises Unavailable."""
    async with connection(pool) as held:
        await held.execute(_sql["end_round"], position, following)


async def find_orphans(held: Connection, put_at: Mapping[str, datetime], *, grace_s: float, skew_s: float) -> list[str]:
    """Those keys, of objects put at these times, that no row has and that no unfinished request may be about to have.

    Keys that are not made by us are never among them.
    """
    digests = {key: sha256 for key in put_at if (sha256 := sha256_of_key(key)) is not None}
    rows = await held.fetch(
        _sql["orphans"], list(digests), list(digests.values()), [put_at[key] for key in digests], grace_s, skew_s
    )
    return [row["key"] for row in rows]


@asynccontextmanager
async def deleting(pool: Pool, position: int, *, flight_s: float) -> AsyncIterator[Connection | None]:
    """Room for one batch of deletions in the folder at this position; None when another one may be under way.

    If the block raises, the batch stays open: what it sent may still arrive. Raises Unavailable.
    """
    async with connection(pool) as held:
        if not await held.fetchval(_sql["lock"]):
            yield None
            return
        try:
            if not await held.fetchval(_sql["begin_batch"], position, flight_s):
                yield None
                return
            yield held
            await held.execute(_sql["end_batch"])
        finally:
            await _unlock(held)


async def read_mark(pool: Pool) -> SweepMark:
    """The last batch of deletions. Raises Unavailable."""
    async with connection(pool) as held:
        row = await held.fetchrow(_sql["read_mark"])
    assert row is not None, "the migration makes the row"
    return SweepMark(row["batch_position"], row["began_at_s"], row["ended_at_s"], row["is_alive"], row["now_s"])


async def _unlock(held: Connection) -> None:
    try:
        await held.fetchval(_sql["unlock"])
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        # The lock belongs to the connection and goes with it.
        held.terminate()
