"""Rows as the audit of events needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import asyncpg

from adapters.audit import TIMEOUT_S
from adapters.postgres import CONNECT_TIMEOUT_S, Connection, mapped_errors
from adapters.queries import load_queries
from models.event_audit import Identity, Row

_sql = load_queries("event_audit")


class EventRows:
    """Reads of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def reading(cls, postgres_url: str) -> AsyncIterator[EventRows]:
        """A connection for the time of the block. Raises Unavailable, as every method does."""
        with mapped_errors():
            connection = await asyncpg.connect(postgres_url, timeout=CONNECT_TIMEOUT_S, command_timeout=TIMEOUT_S)
            try:
                yield cls(connection)
            finally:
                await connection.close(timeout=CONNECT_TIMEOUT_S)

    async def of_partition(self, partition: int) -> dict[Identity, Row]:
        """All requests of a partition."""
        rows = await self._connection.fetch(_sql["rows_of_partition"], partition)
        return {(row[0], row[1]): Row(*tuple(row)[2:]) for row in rows}

    async def of_requests(self, identities: Collection[Identity]) -> dict[Identity, Row]:
        """These requests, as far as they are there."""
        users, requests = [user for user, _ in identities], [request for _, request in identities]
        rows = await self._connection.fetch(_sql["rows_of_requests"], users, requests)
        return {(row[0], row[1]): Row(*tuple(row)[2:]) for row in rows}

    async def balances(self) -> dict[str, tuple[int, int]]:
        """(balance, version) of every account that was ever moved."""
        return {row[0]: (row[1], row[2]) for row in await self._connection.fetch(_sql["moved_accounts"])}

    async def balances_of(self, user_ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """The same for these users only."""
        rows = await self._connection.fetch(_sql["balances_of"], list(user_ids))
        return {row[0]: (row[1], row[2]) for row in rows}

    async def positions(self) -> dict[tuple[str, int], int]:
        """next_offset by stream and partition."""
        return {(row[0], row[1]): row[2] for row in await self._connection.fetch(_sql["positions"])}

    async def letters_acted_on(self) -> set[str]:
        """The dead letters that were redriven or dropped."""
        return {row[0] for row in await self._connection.fetch(_sql["letters_acted_on"])}
