"""Redis killed, hung and back: reads go on, nobody waits for it, and nobody is shown less than before."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapters.credit_cache import CreditCache
from adapters.credit_reads import CACHE_TIMEOUT_S, CreditReads
from devstack.service import Place
from devstack.valkey import Valkey
from streams.settings import load_settings
from tests.cache.accounts import Accounts, event_of
from tests.conftest import free_port
from tests.support.waiting import eventually


class Server:
    """A Valkey of the test's own, which may be killed."""

    def __init__(self, folder: Path) -> None:
        self._valkey = Valkey()
        self._place = Place(load_settings(), folder, folder / "valkey.log", {"main": free_port()}, lambda line: None)
        self.url = self._valkey.address(self._place)
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Begin, empty."""
        command = self._valkey.prepare(self._place)
        self.process = subprocess.Popen(command.argv, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 10
        while not self._valkey.is_ready(self._place):
            assert time.monotonic() < deadline_s, "Valkey does not start"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def credits(server: Server, accounts: Accounts) -> AsyncIterator[CreditReads]:
    made = CreditReads.connect(server.url, accounts.pool)
    yield made
    await made.close()


async def is_cached(credits: CreditReads, user_id: str) -> bool:
    return (await credits.read(user_id)).from_cache


async def test_reads_go_on_without_redis_and_find_it_again(
    server: Server, accounts: Accounts, credits: CreditReads
) -> None:
    await accounts.move("ada", 10)
    await eventually(lambda: is_cached(credits, "ada"))
    server.kill()
    await accounts.move("ada", -1)
    before = credits.counts.fallbacks
    for _ in range(50):
        reading = await credits.read("ada")
        assert (reading.version, reading.from_cache) == (2, False)
    assert credits.counts.fallbacks == before + 50
    assert credits.counts.refusals == 0
    server.start()
    await eventually(lambda: is_cached(credits, "ada"))
    assert (await credits.read("ada")).version == 2


async def test_nobody_waits_for_a_redis_that_hangs(server: Server, accounts: Accounts, credits: CreditReads) -> None:
    await accounts.move("ada", 10)
    await eventually(lambda: is_cached(credits, "ada"))
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        assert not await is_cached(credits, "ada")
        assert CACHE_TIMEOUT_S <= time.monotonic() - began_s < CACHE_TIMEOUT_S + 2
        # From here on every read is as fast as Postgres, also while probes wait for an answer.
        rounds, until_s = 0, time.monotonic() + 6 * CACHE_TIMEOUT_S
        while time.monotonic() < until_s:
            await asyncio.gather(*(credits.read("ada") for _ in range(20)))
            rounds += 1
        assert credits.counts.fallbacks > 20 * rounds
        assert rounds > 12, "each waits as long as half a timeout"
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    await eventually(lambda: is_cached(credits, "ada"))


async def test_an_old_entry_of_a_redis_that_is_back_is_not_shown(
    server: Server, accounts: Accounts, credits: CreditReads
) -> None:
    """Its event has not come yet; readers have seen the new balance from Postgres."""
    await accounts.move("ada", 10)
    await accounts.move("bob", 10)
    await eventually(lambda: is_cached(credits, "ada"))
    await eventually(lambda: is_cached(credits, "bob"))
    os.kill(server.process.pid, signal.SIGSTOP)
    moved = await accounts.move("ada", -1)
    assert (await credits.read("ada")).version == 2
    os.kill(server.process.pid, signal.SIGCONT)
    await eventually(lambda: is_cached(credits, "bob"))
    for _ in range(5):
        assert (await credits.read("ada")).version == 2
    assert await is_cached(credits, "ada")
    cache = CreditCache(server.url)
    assert await cache.move([event_of(moved)]) == []
    await cache.close()


async def test_while_redis_is_away_reads_leave_the_pool_to_others(
    server: Server, accounts: Accounts, credits: CreditReads
) -> None:
    server.kill()
    users = [f"user-{number}" for number in range(300)]
    done = asyncio.Event()

    async def read_on(number: int) -> None:
        while not done.is_set():
            await credits.read(users[number % 300])

    readers = [asyncio.create_task(read_on(number)) for number in range(1_500)]
    await eventually(lambda: credits.counts.fallbacks > 3_000)
    for _ in range(20):
        assert await accounts.pool.fetchval("SELECT 1", timeout=5) == 1
        assert accounts.pool.get_size() - accounts.pool.get_idle_size() <= 2
    done.set()
    await asyncio.gather(*readers)
    assert credits.counts.refusals == 0
