"""Runs at the provider that no request waits for, until they are stopped."""

from __future__ import annotations

from collections.abc import Collection

from adapters.postgres import Connection, Pool, connection, transaction
from adapters.queries import load_queries
from models.settlement import StrayRun

_sql = load_queries("strays")


async def write_strays(held: Connection, strays: Collection[StrayRun]) -> None:
    """Have these runs stopped, in the caller's transaction; those that are known already are left as they are."""
    if not strays:
        return
    await held.execute(
        _sql["write_strays"],
        [stray.prediction_id for stray in strays],
        [stray.collection for stray in strays],
        [stray.user_id for stray in strays],
        [stray.request_id for stray in strays],
    )


async def claim_strays(pool: Pool, *, wanted: int, look_after_s: float) -> list[StrayRun]:
    """Some that are due; they are not shown again before `look_after_s`."""
    async with transaction(pool) as held:
        return [StrayRun(*row) for row in await held.fetch(_sql["claim_strays"], wanted, look_after_s)]


async def forget_stray(pool: Pool, stray: StrayRun) -> None:
    """It is stopped, or over, or gone."""
    async with connection(pool) as held:
        await held.execute(_sql["forget_stray"], stray.prediction_id)
