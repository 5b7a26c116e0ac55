"""Unfinished requests, as the services will find them."""

from __future__ import annotations

from typing import NamedTuple

from adapters.postgres import Pool, connection
from adapters.queries import load_queries

_sql = load_queries("backlog")
_started_lately = load_queries("work")["started_lately"]


class Waiting(NamedTuple):
    """Requests of one state: how many, and the age in seconds of the one that was admitted first."""

    requests: int
    oldest_s: float


async def read_backlog(pool: Pool) -> tuple[dict[str, Waiting], int]:
    """(unfinished requests by state, runs begun within the last hour). Raises Unavailable."""
    async with connection(pool) as held:
        rows = await held.fetch(_sql["unfinished_by_state"])
        started: int = await held.fetchval(_started_lately)
    return {row["state"]: Waiting(row["requests"], row["oldest_s"]) for row in rows}, started
