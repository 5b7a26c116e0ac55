"""The whole path on real Kafka under a mixture of all faults: workers of all roles, killed while they work.

`make mixture` runs it with more requests and says how it went; MIXTURE_REQUESTS and MIXTURE_SEED choose size and seed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest

from devstack.emulator.options import LOCAL_WEBHOOK_SECRET
from models.topics import CANCEL_REQUESTED, COMPLETED, CREDITS, DEAD_LETTERS, FAILED, REQUESTED
from streams.publisher import Publisher
from tests.faults.harness import World, event_ids
from tests.services.door import open_door
from tests.services.emulator import emulator_apart
from tests.services.mixture import ANSWER_TIMEOUT_S, OPTIONS, Wish, assert_whole, wishes
from tests.services.mixture import CREDITS as BALANCE
from tests.support.waiting import eventually

REQUESTS = int(os.environ.get("MIXTURE_REQUESTS") or 200)
KILLS = 2 + REQUESTS // 500
TIMEOUT_S = 180.0 + REQUESTS / 5


@pytest.mark.timeout(TIMEOUT_S + 120.0)
async def test_the_whole_path_survives_a_mixture_of_all_faults(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("MIXTURE_SEED") or random.randrange(1 << 30))
    print(f"MIXTURE_SEED={seed}")
    asked = list(wishes(seed, REQUESTS))
    settings = world.settings
    with emulator_apart(replace(OPTIONS, seed=seed)) as emulator_url:
        async with AsyncExitStack() as closing:
            publisher = Publisher(settings.require("kafka"), client_id="door", topic_prefix=settings.topic_prefix)
            closing.push_async_callback(publisher.close)
            door_url = await closing.enter_async_context(open_door(publisher))
            fulfilment = {
                "REPLICATE_BASE_URL": emulator_url,
                "REPLICATE_API_TOKEN": "r8_test",
                "REPLICATE_WEBHOOK_SECRET": LOCAL_WEBHOOK_SECRET,
                "DARKROOM_PUBLIC_URL": door_url,
                "DARKROOM_PROVIDER_PER_MINUTE": "100000",
                "DARKROOM_PROVIDER_TIMEOUT_S": str(ANSWER_TIMEOUT_S),
                "DARKROOM_PROVIDER_START_WINDOW_S": "1",
                "DARKROOM_PROVIDER_POLL_AFTER_S": "1",
            }
            await world.start("admission").ready()
            await asyncio.gather(*(world.start("fulfilment", **fulfilment).ready() for _ in range(2)))
            await world.open_accounts(sorted({wish.user_id for wish in asked}), BALANCE)
            began = time.monotonic()
            await world.produce(REQUESTED, [(wish.user_id, json.dumps(wish.body()).encode()) for wish in asked])
            await world.until_handled("admit", REQUESTED)
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(
                    cancel_some(world, asked, seed), kill_some(world, fulfilment, seed), all_ended(world, REQUESTS)
                )
            seconds = time.monotonic() - began
            async with httpx.AsyncClient(trust_env=False) as client:
                counts: dict[str, Any] = (await client.get(f"{emulator_url}/emulator/counts")).json()
            for worker in world.workers:
                if worker.process.poll() is None:
                    assert await worker.terminate() == 0, worker.output()
    ends = await assert_whole(settings.require("postgres"), counts, asked)
    await assert_announced(world)
    if "MIXTURE_REQUESTS" in os.environ:
        with capsys.disabled():
            print(f"\nseed {seed}: {REQUESTS} requests in {seconds:.1f} s, {KILLS} kills, ends {dict(ends)}")


async def all_ended(world: World, count: int) -> None:
    async def ended() -> bool:
        rows = await world.fetch("SELECT count(*) FROM generations WHERE state IN ('completed', 'failed', 'cancelled')")
        return bool(rows[0][0] == count)

    await eventually(ended, TIMEOUT_S, "not every request has ended")


async def cancel_some(world: World, asked: list[Wish], seed: int) -> None:
    """At moments that have nothing to do with what their requests are doing."""
    moments = random.Random(seed)
    for wish in asked:
        if wish.is_cancelled:
            await asyncio.sleep(moments.expovariate(10.0))
            body = {"request_id": wish.request_id, "user_id": wish.user_id}
            await world.produce(CANCEL_REQUESTED, [(wish.user_id, json.dumps(body).encode())])


async def kill_some(world: World, fulfilment: dict[str, str], seed: int) -> None:
    """One of the two fulfilment workers at a time, at any moment; another one takes its place."""
    moments = random.Random(seed + 1)
    for _ in range(KILLS):
        await asyncio.sleep(moments.uniform(1.0, 4.0))
        alive = [worker for worker in world.workers[1:] if worker.process.poll() is None]
        moments.choice(alive).kill()
        await world.start("fulfilment", **fulfilment).ready()


async def assert_announced(world: World) -> None:
    """Every ending and every balance was said once, copies apart, and nothing was buried."""
    endings = event_ids(await world.read(COMPLETED)) | event_ids(await world.read(FAILED))
    said = Counter(f"{body['user_id']}/{body['request_id']}" for body in endings.values())
    assert set(said.values()) == {1}
    rows = await world.fetch("SELECT user_id || '/' || request_id, operation, refunded FROM generations")
    assert {row[0] for row in rows} == set(said)
    by_name = {f"{body['user_id']}/{body['request_id']}": body for body in endings.values()}
    assert all(by_name[name]["refunded"] == refunded for name, _, refunded in rows)
    models = {name for name, operation, _ in rows if operation == "training.model" and "model" in by_name[name]}
    held = await world.fetch("SELECT user_id || '/' || request_id FROM user_models")
    assert {row[0] for row in held} == models, "each user trains once"
    changes = event_ids(await world.read(CREDITS))
    for user_id, balance, version in await world.fetch("SELECT user_id, balance, version FROM accounts"):
        if version > 1:
            assert changes[f"{user_id}/credits/{version}"]["balance"] == balance
    assert await world.read(DEAD_LETTERS) == []
