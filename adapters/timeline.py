"""What Postgres knows of one request: its row, its ledger entries, its gallery rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from adapters.postgres import CONNECT_TIMEOUT_S, Connection, mapped_errors
from adapters.queries import load_queries
from models.accounts import charge_reference
from models.timeline_document import Ambiguous

TIMEOUT_S = 20.0

_sql = load_queries("timeline")


@dataclass(frozen=True)
class Kept:
    """Rows as dictionaries by column; `row` is None when the request was never admitted."""

    row: dict[str, Any] | None
    ledger: list[dict[str, Any]]
    images: list[dict[str, Any]]


async def kept_of_request(postgres_url: str, request_id: str, user_id: str | None) -> Kept:
    """All rows of a request, by a connection of its own.

    Raises Unavailable; Ambiguous when several users have a request of this id and none is named.
    """
    with mapped_errors():
        connection = await asyncpg.connect(postgres_url, timeout=CONNECT_TIMEOUT_S, command_timeout=TIMEOUT_S)
        try:
            return await read_kept(connection, request_id, user_id)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)


async def read_kept(connection: Connection, request_id: str, user_id: str | None) -> Kept:
    """All rows of a request. Raises Ambiguous, and the driver's errors."""
    found = await connection.fetch(_sql["find_requests"], request_id, user_id)
    if len(found) > 1:
        raise Ambiguous(request_id, (row["user_id"] for row in found))
    if not found:
        return Kept(None, [], [])
    row = dict(found[0])
    reference_id = charge_reference(row["user_id"], request_id)
    ledger = await connection.fetch(_sql["entries_of_request"], reference_id)
    images = await connection.fetch(_sql["images_of_request"], row["user_id"], request_id)
    return Kept(row, [dict(entry) for entry in ledger], [dict(image) for image in images])
