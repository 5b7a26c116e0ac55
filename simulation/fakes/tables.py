"""Tables in memory with what the steps rely on: transactions at READ COMMITTED, row locks that are waited for, keys."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any

import asyncpg

from simulation.fakes.kafka import BASE_MS

Row = dict[str, Any]
Key = tuple[Any, ...]
Place = tuple[str, Key]

COMMAND_TIMEOUT_S = 20.0

PRIMARY: dict[str, tuple[str, ...]] = {
    "accounts": ("user_id",),
    "ledger": ("reference_id", "kind"),
    "generations": ("user_id", "request_id"),
    "stream_progress": ("stream", "partition"),
    "generated_images": ("user_id", "request_id"),
    "ai_images": ("image_id",),
    "videos": ("video_id",),
    "user_models": ("user_id",),
    "stray_runs": ("prediction_id",),
    "provider_pace": ("name",),
    "provider_service": ("user_id",),
    "provider_starts": ("minute",),
}


class Store:
    """What is committed, and who has locked what."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Key, Row]] = {name: {} for name in PRIMARY}
        self.is_away = False
        self.lost_commits: list[bool] = []
        """The next commits whose answer is lost, one each: whether it was done all the same."""
        self.open: dict[Transaction, None] = {}
        """In the order of their beginning: a set's order would differ from run to run."""
        self._holders: dict[Place, Transaction] = {}
        self._queues: dict[Place, deque[tuple[Transaction, asyncio.Future[None]]]] = {}

    def rows(self, table: str) -> list[Row]:
        """The committed rows."""
        return list(self.tables[table].values())

    def abort_all(self) -> None:
        """The server goes away: what is not committed is gone."""
        for transaction in list(self.open):
            transaction.abort()

    def holder(self, place: Place) -> Transaction | None:
        """Who has locked this row."""
        return self._holders.get(place)

    def take(self, place: Place, transaction: Transaction) -> bool:
        """Lock a row if it is free or the transaction's own."""
        holder = self._holders.setdefault(place, transaction)
        return holder is transaction

    def enqueue(self, place: Place, transaction: Transaction) -> asyncio.Future[None]:
        """Wait in line for a locked row."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(place, deque()).append((transaction, future))
        return future

    def release(self, place: Place) -> None:
        """Give the row to whoever waits first."""
        del self._holders[place]
        queue = self._queues.get(place)
        while queue:
            transaction, future = queue.popleft()
            if not future.done() and transaction in self.open:
                self._holders[place] = transaction
                transaction.held.append(place)
                future.set_result(None)
                break
        if not queue:
            self._queues.pop(place, None)


class Transaction:
    """One transaction: what it has written and which rows it holds, until it ends."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: list[Place] = []
        self.waits_for: Place | None = None
        self.now_s = BASE_MS / 1000 + asyncio.get_running_loop().time()
        self._written: dict[Place, Row | None] = {}
        self._waiting: asyncio.Future[None] | None = None
        store.open[self] = None

    @property
    def is_open(self) -> bool:
        """Whether it may go on."""
        return self in self.store.open

    @property
    def has_written(self) -> bool:
        """Whether a commit would change anything."""
        return bool(self._written)

    @property
    def now_ms(self) -> int:
        """The time of its beginning, which `now()` is."""
        return int(self.now_s * 1000)

    def get(self, table: str, key: Key) -> Row | None:
        """The row as this transaction sees it now."""
        place = (table, key)
        return self._written[place] if place in self._written else self.store.tables[table].get(key)

    def scan(self, table: str) -> Iterator[Row]:
        """All rows as this transaction sees them now."""
        for key in self.store.tables[table]:
            row = self.get(table, key)
            if row is not None:
                yield row
        for (name, key), row in self._written.items():
            if name == table and row is not None and key not in self.store.tables[table]:
                yield row

    async def lock(self, table: str, key: Key) -> Row | None:
        """FOR UPDATE: wait for the row, then return it as it is by then."""
        place = (table, key)
        if not await self._locked(place):
            self.held.append(place)
        return self.get(table, key)

    def try_lock(self, table: str, key: Key) -> bool:
        """SKIP LOCKED: whether the row is ours now."""
        place = (table, key)
        if self.store.holder(place) is self:
            return True
        if not self.store.take(place, self):
            return False
        self.held.append(place)
        return True

    async def _locked(self, place: Place) -> bool:
        """Lock it; True if it is in `held` already."""
        store = self.store
        if store.holder(place) is self:
            return True
        if store.take(place, self):
            return False
        self._refuse_deadlock(place)
        self.waits_for = place
        self._waiting = store.enqueue(place, self)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await self._waiting
        except TimeoutError:
            self.abort()
            raise
        finally:
            self.waits_for = None
        self._check()
        return True

    def _refuse_deadlock(self, place: Place) -> None:
        seen: Place | None = place
        while seen is not None:
            holder = self.store.holder(seen)
            if holder is self:
                self.abort()
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            seen = holder.waits_for if holder is not None else None

    async def insert(self, table: str, row: Row, *, unless_there: bool = False) -> bool:
        """INSERT; with `unless_there` ON CONFLICT DO NOTHING. Whether it is a new row."""
        key = tuple(row[name] for name in PRIMARY[table])
        if await self.lock(table, key) is not None:
            if unless_there:
                return False
            self.abort()
            raise asyncpg.UniqueViolationError(f"duplicate key in {table}: {key}")
        self.put(table, key, row)
        return True

    def put(self, table: str, key: Key, row: Row | None) -> None:
        """Write a row that is locked."""
        self._check()
        if table == "accounts" and row is not None and row["balance"] < 0:
            self.abort()
            raise asyncpg.CheckViolationError("accounts_balance_check")
        self._written[table, key] = row

    def update(self, table: str, row: Row, **changes: Any) -> Row:
        """Change a row that is locked."""
        changed = row | changes
        self.put(table, tuple(row[name] for name in PRIMARY[table]), changed)
        return changed

    def commit(self) -> None:
        """Make it so."""
        self._check()
        for (table, key), row in self._written.items():
            if row is None:
                self.store.tables[table].pop(key, None)
            else:
                self.store.tables[table][key] = row
        self._end()

    def abort(self) -> None:
        """Nothing of it was."""
        if self.is_open:
            self._end()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(asyncpg.ConnectionDoesNotExistError("connection was closed"))

    def _check(self) -> None:
        if not self.is_open:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    def _end(self) -> None:
        self.store.open.pop(self, None)
        for place in self.held:
            self.store.release(place)
        self.held.clear()
