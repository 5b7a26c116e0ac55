"""What the steps rely on: transactions, locks and keys. In memory and in Postgres alike."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from adapters.books import known_grants, lock_accounts, make_accounts, read_balances, write_entries
from adapters.postgres import Pool, connection, transaction
from adapters.progress import lock_progress, read_progress, write_progress
from models.accounts import Account
from models.errors import Unavailable


async def grant(pool: Pool, user_id: str, grant_id: str, amount: int = 5) -> None:
    async with transaction(pool) as held:
        await make_accounts(held, [user_id])
        account = (await lock_accounts(held, [user_id]))[user_id]
        await write_entries(held, [account.move(amount, "bonus", grant_id)], [account])


async def balance(pool: Pool, user_id: str) -> int | None:
    async with connection(pool) as held:
        found = (await read_balances(held, [user_id])).get(user_id)
    return None if found is None else found.balance


async def test_what_is_committed_is_there(pool: Pool) -> None:
    await grant(pool, "u1", "g1")
    assert await balance(pool, "u1") == 5
    async with connection(pool) as held:
        assert await known_grants(held, ["g1", "g2"]) == {"g1": ("u1", 5, "bonus")}


async def test_what_is_rolled_back_is_not(pool: Pool) -> None:
    async def make_and_break() -> None:
        async with transaction(pool) as held:
            await make_accounts(held, ["u1"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await make_and_break()
    assert await balance(pool, "u1") is None


async def test_what_is_not_committed_is_seen_by_its_own_transaction_alone(pool: Pool) -> None:
    async with transaction(pool) as held:
        await make_accounts(held, ["u1"])
        assert list(await lock_accounts(held, ["u1"])) == ["u1"]
        assert await balance(pool, "u1") is None


async def test_whoever_waits_for_a_lock_sees_what_its_holder_has_committed(pool: Pool) -> None:
    async with connection(pool) as held:
        await read_progress(held, "s", 0)
    order: list[str] = []

    async def second() -> int | None:
        async with transaction(pool) as held:
            found = await lock_progress(held, "s", 0)
            order.append("second")
            return found

    async with transaction(pool) as first:
        assert await lock_progress(first, "s", 0) == 0
        waiting = asyncio.create_task(second())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done, "the row was not locked"
        await write_progress(first, "s", 0, next_offset=7, clock_ms=9, decisions=b"x")
        order.append("first")
    assert await waiting == 7
    assert order == ["first", "second"]
    async with connection(pool) as held:
        progress = await read_progress(held, "s", 0)
    assert (progress.prev_offset, progress.next_offset, progress.clock_ms, progress.decisions) == (0, 7, 9, b"x")


async def test_a_lock_is_let_go_by_a_rollback(pool: Pool) -> None:
    await grant(pool, "u1", "g1")

    async def lock_and_break() -> None:
        async with transaction(pool) as held:
            await lock_accounts(held, ["u1"])
            waiting.append(asyncio.create_task(grant(pool, "u1", "g2")))
            await asyncio.wait(waiting, timeout=0.1)
            raise ZeroDivisionError

    waiting: list[asyncio.Task[None]] = []
    with pytest.raises(ZeroDivisionError):
        await lock_and_break()
    await asyncio.gather(*waiting)
    assert await balance(pool, "u1") == 10


async def test_the_same_entry_twice_is_refused_and_nothing_of_its_transaction_stays(pool: Pool) -> None:
    await grant(pool, "u1", "g1")
    with pytest.raises(asyncpg.UniqueViolationError):
        await grant(pool, "u2", "g1")
    assert await balance(pool, "u2") is None
    assert await balance(pool, "u1") == 5


async def test_two_at_once_with_the_same_entry_are_one_and_a_refusal(pool: Pool) -> None:
    outcomes = await asyncio.gather(grant(pool, "u1", "g1"), grant(pool, "u2", "g1"), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "UniqueViolationError"]


async def test_two_that_wait_for_each_other_are_told_apart(pool: Pool) -> None:
    await grant(pool, "u1", "g1")
    await grant(pool, "u2", "g2")
    both = asyncio.Barrier(2)

    async def lock(*user_ids: str) -> None:
        async with transaction(pool) as held:
            await lock_accounts(held, user_ids[:1])
            await both.wait()
            await lock_accounts(held, user_ids[1:])

    outcomes = await asyncio.gather(lock("u1", "u2"), lock("u2", "u1"), return_exceptions=True)
    assert sorted(type(outcome) is Unavailable for outcome in outcomes) == [False, True]


async def test_no_balance_goes_below_zero(pool: Pool) -> None:
    await grant(pool, "u1", "g1")
    account = Account("u1", 5, 1)
    entry = account.move(-6, "charge", "u1/r1")

    async def charge() -> None:
        async with transaction(pool) as held:
            await write_entries(held, [entry], [account])

    with pytest.raises(asyncpg.CheckViolationError):
        await charge()
    assert await balance(pool, "u1") == 5
