"""The sampler on real servers, and the projections role that it runs in."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from adapters.credit_cache import CreditCache
from adapters.credit_reads import CreditReads
from models.accounts import Cause, CreditsChanged, credits_changed
from models.caching import Balance
from models.outputs import EventStamp
from models.topics import CREDITS, DEAD_LETTERS
from services.sampler import Sampler
from streams.settings import Settings
from tests.cache.accounts import Accounts, event_of
from tests.faults.harness import Worker, World
from tests.support.waiting import eventually

SAMPLES = ("samples_total", "behind_samples_total", "stale_samples_total", "wrong_samples_total")


def counted() -> list[float]:
    return [REGISTRY.get_sample_value(f"darkroom_credit_cache_{name}") or 0.0 for name in SAMPLES]


def gauge(name: str) -> float:
    return REGISTRY.get_sample_value(f"darkroom_credit_cache_{name}") or 0.0


async def test_the_sampler_tells_behind_from_stale_and_from_wrong(cache: CreditCache, accounts: Accounts) -> None:
    credits = CreditReads(cache, accounts.load)
    for user in ("ada", "bob", "eve"):
        await accounts.move(user, 10)
        await credits.read(user)
    sampler = Sampler(cache, accounts.load, propagation_s=0.3)
    before = counted()

    async def look() -> list[float]:
        await sampler.tick()
        return [now - then for now, then in zip(counted(), before, strict=True)]

    assert await look() == [3, 0, 0, 0]
    moved = await accounts.move("ada", -1)
    seen_s = time.monotonic()
    assert await look() == [6, 1, 0, 0]
    assert gauge("stale_ratio") == 0.0
    await eventually(lambda: time.monotonic() > seen_s + 0.5)
    assert await look() == [9, 2, 1, 0]
    assert gauge("stale_ratio") == pytest.approx(1 / 9)
    assert 0.3 <= gauge("stale_age_seconds") < 20
    await cache.move([event_of(moved)])
    assert await look() == [12, 2, 1, 0]
    assert gauge("stale_age_seconds") == 0.0
    await accounts.pool.execute("UPDATE accounts SET balance = 99 WHERE user_id = 'eve'")
    assert await look() == [15, 2, 1, 1]
    await credits.close()


@pytest.fixture
async def world(settings: Settings, applied_topics: list[str], tmp_path: Path) -> AsyncIterator[World]:
    made = World(settings, tmp_path)
    yield made
    await made.close()


def event(balance: Balance) -> tuple[str, bytes | None]:
    """The event of a balance, as a worker publishes it."""
    change = CreditsChanged(*balance, Cause("bonus", "g", 1))
    _, key, value, _ = credits_changed(EventStamp(CREDITS, "test"), balance.user_id.encode(), change)
    return (key or b"").decode(), value


async def test_the_projections_role_follows_events_and_watches_the_cache(
    world: World, cache: CreditCache, accounts: Accounts
) -> None:
    projections = await world.start("projections").ready()
    first = await accounts.move("ada", 10)
    await world.produce(CREDITS, [event(first)])
    await eventually(lambda: holds(cache, first), message="what was missing begins")
    for _ in range(3):
        last = await accounts.move("ada", -1)
        await world.produce(CREDITS, [event(last), event(first), ("ada", b"junk")])
    await eventually(lambda: holds(cache, last), message="an entry moves forward")
    assert len(await eventually(lambda: all_letters(world))) == 3
    metrics = await eventually(lambda: metrics_after_a_look(projections))
    assert metrics["darkroom_credit_cache_stale_ratio"] == 0.0
    assert metrics["darkroom_credit_cache_wrong_samples_total"] == 0.0
    assert metrics[f'darkroom_projection_oldest_event_age_seconds{{topic="{CREDITS}"}}'] == 0.0
    assert metrics[f'darkroom_projection_seconds_count{{topic="{CREDITS}"}}'] >= 1
    assert await projections.terminate() == 0


async def holds(cache: CreditCache, balance: Balance) -> bool:
    held = await cache.get(balance.user_id)
    return held is not None and held[:4] == balance


async def all_letters(world: World) -> list[object]:
    letters = await world.read(DEAD_LETTERS)
    return letters if len(letters) == 3 else []


async def metrics_after_a_look(worker: Worker) -> dict[str, float] | None:
    found = re.search(r"health on (\S+)", worker.output())
    assert found
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{found[1]}/metrics", timeout=5).read().decode())
    metrics = {name: float(value) for name, value in re.findall(r"^(darkroom_\S+) (\S+)$", text, re.MULTILINE)}
    return metrics if metrics["darkroom_credit_cache_samples_total"] else None
