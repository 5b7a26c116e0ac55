"""Unfinished requests, as the services will find them."""

from __future__ import annotations

from adapters.postgres import Pool, connection
from adapters.queries import load_queries

_sql = load_queries("backlog")


async def unfinished_by_state(pool: Pool) -> dict[str, tuple[int, float]]:
    """By state, how many requests there are and the age in seconds of the one admitted first. Raises Unavailable."""
    async with connection(pool) as held:
        rows = await held.fetch(_sql["unfinished_by_state"])
    return {row["state"]: (row["requests"], row["oldest_s"]) for row in rows}
