"""Accounts in Postgres that move by ledger entries, and a way to hold up those who read them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from adapters.books import write_entries
from adapters.credit_fills import balances_from
from adapters.postgres import Pool, transaction
from models.accounts import Account
from models.caching import Balance, Move


class Accounts:
    """Moves balances, and loads them as the reader does."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.loads: list[list[str]] = []
        """Every query, by the users it was for."""
        self.under_way = 0
        self.most_under_way = 0
        self._load = balances_from(pool)
        self._held = asyncio.Event()
        self._held.set()
        self._read = asyncio.Event()

    async def move(self, user_id: str, amount: int = 1) -> Balance:
        """One ledger entry, committed; returns the balance that it left."""
        async with transaction(self.pool) as connection:
            await connection.execute("INSERT INTO accounts (user_id) VALUES ($1) ON CONFLICT DO NOTHING", user_id)
            row = await connection.fetchrow("SELECT * FROM accounts WHERE user_id = $1 FOR UPDATE", user_id)
            assert row is not None
            account = Account(user_id, row["balance"], row["version"], row["unlimited"])
            entry = account.move(amount, "bonus", f"{user_id}/{account.version}")
            await write_entries(connection, [entry], [account])
        return Balance(user_id, account.balance, account.version, account.unlimited)

    async def load(self, user_ids: Sequence[str]) -> Mapping[str, Balance]:
        """Balances from Postgres; while held up, what was read is not handed over."""
        self.loads.append(list(user_ids))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            found = await self._load(user_ids)
            self._read.set()
            await self._held.wait()
        finally:
            self.under_way -= 1
        return found

    def hold_up(self) -> None:
        """From now on whoever reads waits between its read and its answer."""
        self._held.clear()
        self._read.clear()

    async def until_read(self) -> None:
        """Wait until somebody who is held up has read."""
        await asyncio.wait_for(self._read.wait(), 10)

    def let_go(self) -> None:
        """Hand over what was read."""
        self._held.set()


def event_of(balance: Balance, *, late: bool = False) -> Move:
    """What the projector makes of the event of this balance."""
    return Move(balance, late)
