"""A server away for 20 s while pictures are being made: every request still ends as it should, once."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest

from devstack.emulator.options import LOCAL_WEBHOOK_SECRET
from models.topics import REQUESTED
from streams.event_audit import audit_events
from streams.publisher import Publisher
from tests.faults.harness import World
from tests.faults.test_outages import AWAY_S, breakable, fragile, kill_server, restart
from tests.services.conftest import QUICK
from tests.services.door import open_door
from tests.services.emulator import emulator_apart
from tests.services.mixture import CREDITS, Wish, assert_whole
from tests.support.waiting import eventually

__all__ = ["breakable", "fragile"]

USERS = 20
REQUESTS = 60


def wishes() -> list[Wish]:
    names = ("maya.image", "studio.images", "feed.post")
    return [
        Wish(f"user-{number % USERS}", f"r{number}", names[number % 3], f"a harbour, number {number}", {}, False)
        for number in range(REQUESTS)
    ]


@pytest.mark.parametrize("server", ["postgres", "kafka"])
async def test_every_picture_survives_a_server_that_is_away_while_it_is_made(fragile: World, server: str) -> None:
    world, asked = fragile, wishes()
    settings = world.settings
    async with AsyncExitStack() as closing:
        # Slow enough for the outage to find requests in every state.
        options = replace(QUICK, latency_min_s=0.5, latency_max_s=4.0, distinct_pictures=16)
        emulator_url = closing.enter_context(emulator_apart(options))
        publisher = Publisher(settings.require("kafka"), client_id="door", topic_prefix=settings.topic_prefix)
        closing.push_async_callback(publisher.close)
        door_url = await closing.enter_async_context(open_door(publisher))
        fulfilment = {
            "REPLICATE_BASE_URL": emulator_url,
            "REPLICATE_API_TOKEN": "r8_test",
            "REPLICATE_WEBHOOK_SECRET": LOCAL_WEBHOOK_SECRET,
            "DARKROOM_PUBLIC_URL": door_url,
            "DARKROOM_PROVIDER_PER_MINUTE": "1200",
            "DARKROOM_PROVIDER_START_WINDOW_S": "2",
            "DARKROOM_PROVIDER_POLL_AFTER_S": "2",
        }
        await world.open_accounts(sorted({wish.user_id for wish in asked}), CREDITS)
        await world.start("admission").ready()
        await world.start("fulfilment", **fulfilment).ready()
        await world.produce(REQUESTED, [(wish.user_id, json.dumps(wish.body()).encode()) for wish in asked])

        async def some_are_done() -> bool:
            rows = await world.fetch("SELECT count(*) FROM generations WHERE state = 'completed'")
            return 5 <= rows[0][0] < REQUESTS - 10

        await eventually(some_are_done, 40, f"not in the middle of it; {world.tails()}")
        kill_server(settings, server)
        back_at = time.monotonic() + AWAY_S
        await eventually(lambda: time.monotonic() > back_at, AWAY_S + 5)
        assert [worker.process.poll() for worker in world.workers] == [None, None], world.tails()
        await restart(settings)

        async def all_are_done() -> bool:
            rows = await world.fetch("SELECT count(*) FROM generations WHERE state = 'completed'")
            return bool(rows[0][0] == REQUESTS)

        await eventually(all_are_done, 60, f"not all completed; {world.tails()}")
        async with httpx.AsyncClient(trust_env=False) as client:
            counts = (await client.get(f"{emulator_url}/emulator/counts")).json()
        assert [await worker.terminate() for worker in world.workers] == [0, 0], world.tails()
    ends = await assert_whole(settings.require("postgres"), counts, asked)
    assert ends == {"completed": REQUESTS}
    found = await audit_events(settings)
    # Credits were booked straight into the tables; all else must be announced.
    assert found.violations == found.counts["balances_are_announced"], found.examples
