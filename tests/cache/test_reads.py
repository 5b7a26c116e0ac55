"""Reading credits: what a reader is given, and how little Postgres is asked for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from adapters.credit_cache import USERS_PER_CALL, CreditCache
from adapters.credit_reads import CreditReads, Gate
from models.caching import RENEW_AGE_S, TTL_JITTER_MS, TTL_MS
from models.errors import Unavailable
from tests.cache.accounts import Accounts, event_of
from tests.support.waiting import eventually


@pytest.fixture
async def credits(cache: CreditCache, accounts: Accounts) -> AsyncIterator[CreditReads]:
    made = CreditReads(cache, accounts.load)
    yield made
    await made.close()


async def test_the_first_read_is_from_postgres_and_the_next_from_the_cache(
    accounts: Accounts, credits: CreditReads
) -> None:
    await accounts.move("ada", 10)
    first, second = await credits.read("ada"), await credits.read("ada")
    assert first[:4] == second[:4] == ("ada", 10, 1, False)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert 0 <= first.age_s < 5
    assert 0 <= second.age_s < 5
    assert accounts.loads == [["ada"]]


async def test_a_user_without_an_account_has_nothing_and_is_cached_too(
    accounts: Accounts, credits: CreditReads, cache: CreditCache
) -> None:
    assert (await credits.read("nobody"))[1:4] == (0, 0, False)
    assert (await credits.read("nobody")).from_cache
    await cache.move([event_of(await accounts.move("nobody", 5))])
    assert (await credits.read("nobody"))[1:3] == (5, 1)
    assert len(accounts.loads) == 1


async def test_an_unlimited_account_is_shown_as_one(accounts: Accounts, credits: CreditReads) -> None:
    await accounts.move("ada", 10)
    await accounts.pool.execute("UPDATE accounts SET unlimited = true")
    assert [(await credits.read("ada")).unlimited for _ in range(2)] == [True, True]


async def test_an_entry_is_a_hash_that_expires_in_half_a_minute(
    accounts: Accounts, credits: CreditReads, redis_url: str
) -> None:
    await accounts.move("ada", 10)
    await credits.read("ada")
    async with redis.asyncio.from_url(redis_url, decode_responses=True) as server:
        entry = await server.hgetall("credits:ada")
        assert (entry["balance"], entry["version"], entry["unlimited"]) == ("10", "1", "0")
        assert TTL_MS - 5_000 < await server.pttl("credits:ada") <= TTL_MS + TTL_JITTER_MS
        assert await server.keys() == ["credits:ada"]


async def test_the_age_grows_from_when_it_was_true(accounts: Accounts, credits: CreditReads) -> None:
    await accounts.move("ada", 10)
    await credits.read("ada")

    async def is_older() -> bool:
        return (await credits.read("ada")).age_s > 0.05

    await eventually(is_older)


async def test_what_is_read_on_is_renewed_before_it_expires(
    cache: CreditCache, accounts: Accounts, credits: CreditReads, redis_url: str
) -> None:
    await accounts.move("ada", 10)
    await credits.read("ada")
    async with redis.asyncio.from_url(redis_url) as server:
        await server.hincrby("credits:ada", "at_ms", -int(RENEW_AGE_S * 1000) - 1)
        await server.pexpire("credits:ada", 10_000)
        readings = await asyncio.gather(*(credits.read("ada") for _ in range(100)))
        assert {reading.from_cache for reading in readings} == {True}

        async def is_renewed() -> bool:
            return (await credits.read("ada")).age_s < RENEW_AGE_S

        await eventually(is_renewed)
        assert await server.pttl("credits:ada") > 20_000
    assert accounts.loads == [["ada"]] * 2
    assert (credits.counts.misses, credits.counts.renewals) == (1, 1)


async def test_a_renewal_that_cannot_be_made_disturbs_nobody(
    cache: CreditCache, accounts: Accounts, redis_url: str
) -> None:
    tries = 0

    async def load(user_ids):  # type: ignore[no-untyped-def]
        nonlocal tries
        tries += 1
        if tries > 1:
            raise Unavailable("Postgres", "it is away")
        return await accounts.load(user_ids)

    credits = CreditReads(cache, load)
    await credits.read("ada")
    async with redis.asyncio.from_url(redis_url) as server:
        await server.hincrby("credits:ada", "at_ms", -int(RENEW_AGE_S * 1000) - 1)

    async def was_tried_twice() -> bool:
        return (await credits.read("ada")).from_cache and tries == 3

    await eventually(was_tried_twice)
    await credits.close()


async def test_a_thousand_readers_of_one_missing_user_are_one_query(accounts: Accounts, credits: CreditReads) -> None:
    await accounts.move("ada", 10)
    readings = await asyncio.gather(*(credits.read("ada") for _ in range(1000)))
    assert {reading.version for reading in readings} == {1}
    assert accounts.loads == [["ada"]]
    assert credits.counts.misses == 1000
    assert credits.counts.joins == 999


async def test_readers_who_come_during_the_query_do_not_make_another(accounts: Accounts, credits: CreditReads) -> None:
    await accounts.move("ada", 10)
    accounts.hold_up()
    first = asyncio.create_task(credits.read("ada"))
    await accounts.until_read()
    later = [asyncio.create_task(credits.read("ada")) for _ in range(100)]
    await eventually(lambda: credits.counts.misses == 101)
    accounts.let_go()
    readings = await asyncio.gather(first, *later)
    assert [reading.from_cache for reading in readings] == [False] + [True] * 100
    assert accounts.loads == [["ada"]]


async def test_who_knows_of_a_later_version_is_not_shown_less(
    cache: CreditCache, accounts: Accounts, credits: CreditReads
) -> None:
    await accounts.move("ada", 10)
    await credits.read("ada")
    known = await accounts.move("ada", -1)
    assert (await credits.read("ada")).version == 1
    assert (await credits.read("ada", at_least=known.version))[1:3] == (9, 2)
    held = await cache.get("ada")
    assert held is not None
    assert held.version == 2


async def test_a_reader_who_leaves_takes_nobody_along(accounts: Accounts, credits: CreditReads) -> None:
    await accounts.move("ada", 10)
    accounts.hold_up()
    staying, leaving = (asyncio.create_task(credits.read("ada")) for _ in range(2))
    await accounts.until_read()
    leaving.cancel()
    accounts.let_go()
    assert (await staying).version == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_flush_under_load_is_no_stampede(cache: CreditCache, accounts: Accounts, credits: CreditReads) -> None:
    users = [f"user-{number}" for number in range(400)]
    await accounts.pool.executemany("INSERT INTO accounts VALUES ($1, 7, 1)", [(user,) for user in users])
    await asyncio.gather(*(credits.read(user) for user in users))
    queries, misses, done = len(accounts.loads), credits.counts.misses, asyncio.Event()

    async def read_on(number: int) -> None:
        while not done.is_set():
            for user in users[number::50]:
                assert (await credits.read(user)).balance == 7

    readers = [asyncio.create_task(read_on(number % 50)) for number in range(500)]
    await eventually(lambda: credits.counts.hits > 5_000)
    assert len(accounts.loads) == queries
    dropped = await cache.flush()
    hits = credits.counts.hits
    await eventually(lambda: credits.counts.hits > hits + 5_000)
    done.set()
    await asyncio.gather(*readers)
    assert dropped == 400
    asked = [user for load in accounts.loads[queries:] for user in load]
    assert sorted(asked) == sorted(users), "each user is read from Postgres once"
    assert credits.counts.misses - misses >= 400
    assert accounts.most_under_way <= Gate().queries_max


async def test_the_gate_bounds_queries_and_the_queue_and_opens_again(cache: CreditCache, accounts: Accounts) -> None:
    credits = CreditReads(cache, accounts.load, Gate(queries_max=2, waiting_max=20))
    accounts.hold_up()
    waiting = []
    for number in range(20):
        waiting.append(asyncio.create_task(credits.read(f"user-{number}")))
        if number < 2:
            await eventually(lambda wanted=number + 1: accounts.under_way == wanted)  # type: ignore[misc]
    await eventually(lambda: credits.counts.misses == 20)
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match="Postgres is not available: 20 reads wait for it already"):
        await credits.read("one-too-many")
    assert time.monotonic() - began_s < 1
    assert credits.counts.refusals == 1
    # The pool of three is not exhausted: others of the process go on.
    assert await accounts.pool.fetchval("SELECT 1", timeout=5) == 1
    accounts.let_go()
    await asyncio.gather(*waiting)
    assert accounts.most_under_way == 2
    assert len(accounts.loads) == 3
    assert (await credits.read("one-too-many")).version == 0
    await credits.close()


async def test_more_calls_at_once_than_connections_wait_for_each_other(cache: CreditCache, accounts: Accounts) -> None:
    balance = await accounts.move("ada", 10)
    outcomes = await asyncio.gather(*(cache.move([event_of(balance)]) for _ in range(100)))
    assert outcomes == [["ada"]] * 100


async def test_a_call_may_be_about_more_users_than_the_server_takes_at_once(credits: CreditReads) -> None:
    users = [f"user-{number}" for number in range(2 * USERS_PER_CALL + 1)]
    first = await asyncio.gather(*(credits.read(user) for user in users))
    second = await asyncio.gather(*(credits.read(user) for user in users))
    assert [reading.user_id for reading in first] == [reading.user_id for reading in second] == users
    assert {reading.from_cache for reading in second} == {True}


async def test_while_postgres_is_away_what_is_cached_can_be_read(cache: CreditCache, accounts: Accounts) -> None:
    away = False

    async def load(user_ids):  # type: ignore[no-untyped-def]
        if away:
            raise Unavailable("Postgres", "it is away")
        return await accounts.load(user_ids)

    credits = CreditReads(cache, load)
    await accounts.move("ada", 10)
    await credits.read("ada")
    away = True
    assert (await credits.read("ada")).from_cache
    with pytest.raises(Unavailable, match="Postgres"):
        await credits.read("bob")
    away = False
    assert (await credits.read("bob")).version == 0
    await credits.close()


async def test_a_closed_reader_leaves_nobody_waiting(cache: CreditCache, accounts: Accounts) -> None:
    credits = CreditReads(cache, accounts.load, Gate(queries_max=1))
    accounts.hold_up()
    waiting = [asyncio.create_task(credits.read("ada"))]
    await accounts.until_read()
    waiting.append(asyncio.create_task(credits.read("bob")))
    await eventually(lambda: credits.counts.misses == 2)
    await credits.close()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
