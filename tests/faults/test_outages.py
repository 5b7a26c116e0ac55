"""A server away for 20 s: workers wait and go on. No crash loop, no refusals because of it, nothing lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapters.credit_cache import CreditCache
from adapters.migrate import migrate
from devstack.roster import read_roster
from devstack.stack import start_stack, stop_stack
from models.topics import REJECTED, REQUESTED
from streams.settings import Settings, load_settings
from streams.topics import apply_topics
from tests.faults.harness import World, admission_violations, request
from tests.support.databases import create_database, run_apart
from tests.support.waiting import eventually

AWAY_S = 20.0
SERVERS = ["postgres", "redis", "kafka"]
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Servers of this module's own, which may be killed."""
    home = tmp_path_factory.mktemp("outages")
    bare = load_settings(home=home, partitions=4, kafka=None, postgres=None, redis=None)
    try:
        yield start_stack(bare, attached=False, progress=lambda line: None)
    finally:
        stop_stack(bare)


@pytest.fixture
async def fragile(breakable: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world on the servers that may be killed."""
    name = f"outage_{request.node.callspec.id}_{uuid.uuid4().hex[:6]}"
    url = run_apart(create_database(breakable.require("postgres"), name))
    migrate(url)
    # The users are the same in every test, and a cache keeps what is newer: each test needs one of its own.
    redis = f"{breakable.require('redis').rpartition('/')[0]}/{1 + SERVERS.index(request.node.callspec.id)}"
    settings = breakable.model_copy(update={"postgres": url, "redis": redis, "topic_prefix": f"{name}-"})
    await apply_topics(settings)
    world = World(settings, tmp_path)
    try:
        yield world
    finally:
        await world.close()


def kill_server(settings: Settings, field: str) -> None:
    """kill -9 of an embedded server."""
    os.kill(read_roster(settings.home / "stack.json")[field].pid, signal.SIGKILL)


async def restart(settings: Settings) -> None:
    """Start what is missing, on the old data and the old ports."""
    bare = settings.model_copy(update={"kafka": None, "postgres": None, "redis": None})
    again = await asyncio.to_thread(start_stack, bare, attached=False, progress=lambda line: None)
    assert again.kafka == settings.kafka


@pytest.mark.parametrize("server", SERVERS)
async def test_workers_outlive_a_server_that_is_away(fragile: World, server: str) -> None:
    world = fragile
    await world.open_accounts(USERS, 1000)
    admission, projections = world.start(), world.start("projections")
    await admission.ready()
    await projections.ready()
    await world.produce(REQUESTED, [request(f"before-{number}", USERS[number % 40]) for number in range(200)])
    await world.until_acked("admission", REQUESTED)

    kill_server(world.settings, server)
    if server != "kafka":
        await world.produce(REQUESTED, [request(f"during-{number}", USERS[number % 40]) for number in range(200)])
    back_at = time.monotonic() + AWAY_S
    await eventually(lambda: time.monotonic() > back_at, AWAY_S + 5)
    assert [worker.process.poll() for worker in world.workers] == [None, None], world.tails()
    await restart(world.settings)

    await world.produce(REQUESTED, [request(f"after-{number}", USERS[number % 40]) for number in range(200)])
    await world.until_acked("admission", REQUESTED, timeout_s=40)
    assert await world.read(REJECTED) == []
    await cache_equals_accounts(world)
    assert [await worker.terminate() for worker in world.workers] == [0, 0], world.tails()
    assert await admission_violations(world, opening_balance=1000) == []


@pytest.mark.parametrize("server", ["kafka"])
async def test_term_while_kafka_is_away_ends_the_worker_and_frees_its_partitions(fragile: World, server: str) -> None:
    """Past the session's time Faust cannot stop by itself: it must not live on and hold the partitions."""
    world = fragile
    await world.open_accounts(USERS, 1000)
    worker = await world.start().ready()
    kill_server(world.settings, server)
    away_at = time.monotonic() + world.settings.session_timeout_s + 5
    await eventually(lambda: time.monotonic() > away_at, 20)
    began = time.monotonic()
    await worker.terminate(timeout_s=12)
    assert time.monotonic() - began < 10.5
    await restart(world.settings)
    await world.start().ready()
    await world.produce(REQUESTED, [request(f"after-{number}", USERS[number % 40]) for number in range(200)])
    await world.until_acked("admission", REQUESTED, timeout_s=40)
    assert await admission_violations(world, opening_balance=1000) == []


async def cache_equals_accounts(world: World) -> None:
    """Within seconds the cache holds the accounts' last versions (entries live for half a minute)."""
    cache = CreditCache(world.settings.require("redis"))
    accounts = {row["user_id"]: (row["balance"], row["version"]) for row in await world.fetch("SELECT * FROM accounts")}

    async def equal() -> bool:
        held = {user: await cache.get(user) for user in USERS}
        return all(entry and (entry.balance, entry.version) == accounts[user] for user, entry in held.items())

    try:
        await eventually(equal, 25, f"the cache differs from the accounts; {world.tails()}")
    finally:
        await cache.close()
