"""What is read for users and dashboards: one request with its outputs, and pages of a ledger. One query each."""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.postgres import Pool, connection
from adapters.queries import load_queries
from models.ledger_pages import Entry, LedgerPage, cursor_of
from models.timeline_document import Ambiguous

_sql = load_queries("reads")


async def read_generation(pool: Pool, user_id: str, request_id: str) -> dict[str, Any] | None:
    """A request's row by column, with `images` as a list (empty unless completed) and `model` as a dictionary;
    None if it has no row.

    Raises Unavailable.
    """
    async with connection(pool) as held:
        row = await held.fetchrow(_sql["generation"], user_id, request_id)
    if row is None:
        return None
    decode = msgspec.json.decode
    return dict(row) | {
        "images": decode(row["images"]) if row["images"] else [],
        "model": decode(row["model"]) if row["model"] else None,
    }


async def owner_of_request(pool: Pool, request_id: str) -> str | None:
    """Whose request has this id, None if nobody's row has. Slow: reads the whole table.

    Raises Unavailable; Ambiguous: several users' have.
    """
    async with connection(pool) as held:
        owners = [row["user_id"] for row in await held.fetch(_sql["owners_of_request"], request_id)]
    if len(owners) > 1:
        raise Ambiguous(request_id, owners)
    return owners[0] if owners else None


async def read_state(pool: Pool, user_id: str, request_id: str) -> str | None:
    """The state of a request, None if it has no row. Raises Unavailable."""
    async with connection(pool) as held:
        state: str | None = await held.fetchval(_sql["state"], user_id, request_id)
        return state


async def read_entries(pool: Pool, user_id: str, *, before_version: int, limit: int) -> LedgerPage:
    """A page of a user's ledger, newest first. Raises Unavailable."""
    async with connection(pool) as held:
        rows = await held.fetch(_sql["entries"], user_id, before_version, limit + 1)
    entries = [Entry(**dict(row)) for row in rows[:limit]]
    return LedgerPage(entries, cursor_of(entries[-1].version) if len(rows) > limit else None)
