"""Every way in which somebody who is late could put an old balance back, forced to happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio

from adapters.credit_cache import CreditCache, Fill
from adapters.credit_reads import CreditReads
from models.caching import Balance, CreditReading
from tests.cache.accounts import Accounts, event_of

Lose = Callable[[redis.asyncio.Redis, CreditCache], Awaitable[object]]


async def keep(server: redis.asyncio.Redis, cache: CreditCache) -> None:
    pass


async def expire(server: redis.asyncio.Redis, cache: CreditCache) -> None:
    await server.pexpire("credits:ada", 1)
    while await server.exists("credits:ada"):
        await asyncio.sleep(0.002)


async def evict(server: redis.asyncio.Redis, cache: CreditCache) -> None:
    await server.delete("credits:ada")


async def flush(server: redis.asyncio.Redis, cache: CreditCache) -> None:
    assert await cache.flush() == 1


async def empty(server: redis.asyncio.Redis, cache: CreditCache) -> None:
    await server.flushdb()


LOSSES = [keep, expire, evict, flush, empty]


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A second client, to do to the server what happens to it."""
    async with redis.asyncio.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def credits(cache: CreditCache, accounts: Accounts) -> AsyncIterator[CreditReads]:
    made = CreditReads(cache, accounts.load)
    yield made
    await made.close()


async def held_version(cache: CreditCache) -> int | None:
    held = await cache.get("ada")
    return held.version if held else None


async def test_a_reader_that_fills_after_the_event_does_not_put_the_old_balance_back(
    cache: CreditCache, accounts: Accounts, credits: CreditReads
) -> None:
    await accounts.move("ada", 10)
    accounts.hold_up()
    reader = asyncio.create_task(credits.read("ada"))
    await accounts.until_read()
    assert await cache.move([event_of(await accounts.move("ada", -1))]) == ["ada"]
    accounts.let_go()
    assert (await reader).version == 1
    assert await held_version(cache) is None
    following = await credits.read("ada")
    assert (following.balance, following.version) == (9, 2)


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_late_fill_is_refused_whatever_happened_to_the_later_entry(
    cache: CreditCache, accounts: Accounts, credits: CreditReads, server: redis.asyncio.Redis, lose: Lose
) -> None:
    await accounts.move("ada", 10)
    accounts.hold_up()
    late = asyncio.create_task(credits.read("ada"))
    await accounts.until_read()
    # Meanwhile the balance moves, another gateway has it in the cache, its event comes, and then the entry is lost.
    later = await accounts.move("ada", -1)
    (token,) = await cache.claim([("ada", 0)])
    assert isinstance(token, str)
    assert await cache.fill([Fill(token, later, 0.0)]) == [True]
    await cache.move([event_of(later)])
    await lose(server, cache)
    accounts.let_go()
    shown = (await late).version
    assert shown == (2 if lose is keep else 1)
    assert await held_version(cache) == (2 if lose is keep else None)
    assert (await credits.read("ada")).version == 2


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_late_fill_is_refused_even_if_no_event_has_come(
    cache: CreditCache, accounts: Accounts, credits: CreditReads, server: redis.asyncio.Redis, lose: Lose
) -> None:
    await accounts.move("ada", 10)
    accounts.hold_up()
    late = asyncio.create_task(credits.read("ada"))
    await accounts.until_read()
    (token,) = await cache.claim([("ada", 0)])
    assert isinstance(token, str)
    assert await cache.fill([Fill(token, await accounts.move("ada", -1), 0.0)]) == [True]
    await lose(server, cache)
    accounts.let_go()
    await late
    assert await held_version(cache) in (None, 2)
    assert (await credits.read("ada")).version == 2


@pytest.mark.parametrize("lose", LOSSES)
async def test_an_old_event_does_not_begin_an_entry(
    cache: CreditCache, accounts: Accounts, credits: CreditReads, server: redis.asyncio.Redis, lose: Lose
) -> None:
    old = await accounts.move("ada", 10)
    await accounts.move("ada", -1)
    assert (await credits.read("ada")).version == 2
    await lose(server, cache)
    await cache.move([event_of(old)])
    assert await held_version(cache) == (2 if lose is keep else None)
    assert (await credits.read("ada")).version == 2


async def test_an_event_moves_an_entry_forward_and_never_back(cache: CreditCache, accounts: Accounts) -> None:
    versions = [await accounts.move("ada") for _ in range(4)]
    (token,) = await cache.claim([("ada", 0)])
    assert isinstance(token, str)
    await cache.fill([Fill(token, versions[0], 0.0)])
    for event, expected in ((1, 2), (3, 4), (2, 4), (1, 4), (3, 4)):
        assert await cache.move([event_of(versions[event])]) == []
        assert await held_version(cache) == expected


async def test_a_late_event_drops_what_it_would_have_changed(cache: CreditCache, accounts: Accounts) -> None:
    old, new = await accounts.move("ada"), await accounts.move("ada")
    (token,) = await cache.claim([("ada", 0)])
    assert isinstance(token, str)
    await cache.fill([Fill(token, old, 0.0)])
    assert await cache.move([event_of(old, late=True)]) == []
    assert await held_version(cache) == 1
    assert await cache.move([event_of(new, late=True)]) == ["ada"]
    assert await held_version(cache) is None


async def test_a_lease_is_good_for_one_fill(cache: CreditCache, server: redis.asyncio.Redis) -> None:
    (token,) = await cache.claim([("ada", 0)])
    assert await cache.claim([("ada", 0)]) == [token]
    assert isinstance(token, str)
    assert await cache.fill([Fill(token, Balance("ada", 5, 2, False), 0.0)]) == [True]
    await evict(server, cache)
    assert await cache.fill([Fill(token, Balance("ada", 6, 1, False), 0.0)]) == [False]
    assert await held_version(cache) is None


async def test_the_same_version_is_renewed_under_a_lease_only(cache: CreditCache, server: redis.asyncio.Redis) -> None:
    balance = Balance("ada", 5, 2, False)
    (token,) = await cache.claim([("ada", 0)])
    assert isinstance(token, str)
    await cache.fill([Fill(token, balance, 1.0)])
    await server.pexpire("credits:ada", 10_000)
    (unclaimed,) = await cache.fill([Fill(token, balance, 0.0)])
    assert isinstance(unclaimed, CreditReading)
    assert await server.pttl("credits:ada") <= 10_000
    (token,) = await cache.claim([("ada", 3)])
    assert isinstance(token, str)
    assert await cache.fill([Fill(token, balance, 0.0)]) == [True]
    assert await server.pttl("credits:ada") > 20_000


async def test_a_lease_ends_by_itself(cache: CreditCache, server: redis.asyncio.Redis) -> None:
    (token,) = await cache.claim([("ada", 0)])
    assert 0 < await server.pttl("credits-lease:ada") <= 5_000
    await server.pexpire("credits-lease:ada", 1)
    while await server.exists("credits-lease:ada"):
        await asyncio.sleep(0.002)
    assert isinstance(token, str)
    assert await cache.fill([Fill(token, Balance("ada", 5, 2, False), 0.0)]) == [False]


async def test_what_cannot_be_read_is_missing_and_is_mended(
    cache: CreditCache, accounts: Accounts, credits: CreditReads, server: redis.asyncio.Redis
) -> None:
    await accounts.move("ada", 10)
    await server.set("credits:ada", "not a hash")
    await server.hset("credits:bob", mapping={"balance": "many", "version": "1", "unlimited": "0"})
    await server.hset("credits:eve", mapping={"balance": "1.5", "version": "nan", "unlimited": "0"})
    await server.hset("credits:dora", mapping={"balance": "4", "version": "2", "unlimited": "1"})
    readings = await cache.read(["ada", "bob", "eve", "dora"])
    assert readings[:3] == [None, None, None]
    assert readings[3] == CreditReading("dora", 4, 2, True, 33.0, True)
    assert (await credits.read("ada")).balance == 10
    assert (await credits.read("ada")).from_cache
    assert (await credits.read("bob")).version == 0
