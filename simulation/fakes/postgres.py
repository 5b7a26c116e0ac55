"""A pool and connections of asyncpg's shape on the in-memory tables. They know the named queries and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from simulation.fakes.tables import Store, Transaction
from simulation.net import Process
from simulation.statements.registry import COPY_DEFAULTS, statement_of


class FakePool:
    """One process's way to the database."""

    def __init__(self, store: Store, process: Process) -> None:
        self.store = store
        self.process = process
        self._used: dict[FakeConnection, None] = {}

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncIterator[FakeConnection]:  # noqa: ASYNC109
        """A connection. Raises OSError: the server is away."""
        await self.process.settle()
        if self.store.is_away:
            await self.process.hop()
            raise ConnectionRefusedError("the server is away")
        connection = FakeConnection(self)
        self._used[connection] = None
        try:
            yield connection
        finally:
            del self._used[connection]

    def cut(self) -> None:
        """The process has died: the server ends what it had open."""
        for connection in self._used:
            connection.cut()


class FakeConnection:
    """asyncpg.Connection, as far as the adapters use it."""

    def __init__(self, pool: FakePool) -> None:
        self._store = pool.store
        self._process = pool.process
        self._open: Transaction | None = None

    def cut(self) -> None:
        """The connection is lost."""
        if self._open is not None:
            self._open.abort()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """BEGIN, then COMMIT or ROLLBACK; one within another is the same one."""
        if self._open is not None:
            yield
            return
        await self._process.hop()
        self._refuse_if_away()
        self._open = Transaction(self._store)
        try:
            yield
        except BaseException:
            self._open.abort()
            self._open = None
            raise
        opened = self._open
        try:
            await self._process.hop()
            await self._commit(opened)
        finally:
            opened.abort()
            self._open = None

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """All rows."""
        rows: list[Any] = await self._run(query, arguments)
        return rows

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        """The first row or None."""
        rows = await self._run(query, arguments)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row, or None."""
        rows = await self._run(query, arguments)
        return rows[0][0] if rows else None

    async def execute(self, query: str, *arguments: Any) -> str:
        """No rows wanted."""
        await self._run(query, arguments)
        return ""

    async def cursor(self, query: str, *arguments: Any) -> _Cursor:
        """Rows in parts."""
        return _Cursor(await self._run(query, arguments))

    async def copy_records_to_table(
        self, table: str, *, records: Iterable[Sequence[Any]], columns: Iterable[str]
    ) -> None:
        """COPY: inserts that may not conflict."""
        names = list(columns)
        rows = [dict(zip(names, record, strict=True)) for record in records]

        async def copy(held: Transaction) -> list[Any]:
            for row in rows:
                await held.insert(table, COPY_DEFAULTS[table](held, row))
            return []

        await self._do(copy)

    async def _run(self, query: str, arguments: Sequence[Any]) -> Any:
        statement = statement_of(query)

        async def run(held: Transaction) -> Any:
            return await statement(held, *arguments)

        return await self._do(run)

    async def _do(self, work: Any) -> Any:
        await self._process.hop()
        self._refuse_if_away()
        held = self._open
        if held is not None:
            if not held.is_open:
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            try:
                rows = await work(held)
            except asyncpg.PostgresConnectionError:
                await self._process.settle()  # whoever died while waiting for a lock learns nothing
                raise
            self._process.step_on_trap()
            await self._process.hop()
            return rows
        alone = Transaction(self._store)
        try:
            rows = await work(alone)
            await self._commit(alone)
        finally:
            alone.abort()
        return rows

    async def _commit(self, held: Transaction) -> None:
        self._refuse_if_away()
        is_done = self._store.lost_commits.pop(0) if self._store.lost_commits and held.has_written else None
        if is_done is False:
            held.abort()
        else:
            held.commit()
        await self._process.hop()
        if is_done is not None:
            raise asyncpg.ConnectionDoesNotExistError("the answer to COMMIT was lost")

    def _refuse_if_away(self) -> None:
        if self._store.is_away:
            raise asyncpg.ConnectionDoesNotExistError("the server went away")


class _Cursor:
    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    async def fetch(self, wanted: int) -> list[Any]:
        """The next rows."""
        taken, self._rows = self._rows[:wanted], self._rows[wanted:]
        await asyncio.sleep(0)
        return taken
