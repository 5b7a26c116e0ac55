"""The table of tokens. A token's text leaves `create_token` once and is nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime

import asyncpg

from adapters.postgres import Pool, connection
from adapters.queries import load_queries
from models.errors import WrongUse
from models.tokens import (
    ID_BYTES,
    LIVE_MAX,
    SECRET_BYTES,
    StoredToken,
    checked_name,
    checked_scopes,
    token_text,
)

LISTED_MAX = 10_000

_sql = load_queries("tokens")


async def create_token(
    pool: Pool, scopes: Collection[str], name: str = "", expires_at: datetime | None = None
) -> tuple[str, str]:
    """Make a token; (its text, its id). Raises WrongUse: scopes, name, or too many live ones. Unavailable."""
    checked = list(checked_scopes(scopes))
    label = checked_name(name)
    text, token_id, secret_hash = token_text(secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    async with connection(pool) as held:
        made = await held.fetchval(_sql["create"], token_id, secret_hash, checked, label, expires_at, LIVE_MAX)
    if made is None:
        raise WrongUse(f"there are {LIVE_MAX} live tokens already; revoke some first")
    return text, token_id


async def live_tokens(pool: Pool) -> dict[str, StoredToken]:
    """Every token that opens something, by id. Raises Unavailable."""
    async with connection(pool) as held:
        rows = await held.fetch(_sql["live"], LIVE_MAX)
    return {row["token_id"]: _token(row) for row in rows}


async def list_tokens(pool: Pool) -> list[StoredToken]:
    """The newest LISTED_MAX, revoked ones too. Raises Unavailable."""
    async with connection(pool) as held:
        return [_token(row) for row in await held.fetch(_sql["list"], LISTED_MAX)]


async def revoke_token(pool: Pool, token_id: str) -> bool:
    """Whether there is such a token; it is revoked now. Raises Unavailable."""
    async with connection(pool) as held:
        return await held.fetchval(_sql["revoke"], token_id) is not None


def _token(row: asyncpg.Record) -> StoredToken:
    return StoredToken(
        row["token_id"],
        row["secret_hash"],
        tuple(row["scopes"]),
        row["name"],
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
    )
