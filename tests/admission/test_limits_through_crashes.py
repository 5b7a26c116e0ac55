"""Windows stay exact while workers are killed and limits change under traffic: no admission too many, no refusal
that exactness would admit. Checked from the topics alone, with what each answer says of its own limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import defaultdict

from models.operations import Mode
from models.topics import REJECTED, REQUESTED
from streams.limit_levers import change_limits
from tests.admission.scene import assert_clean, fund
from tests.faults.harness import World, event_ids, request
from tests.support.waiting import eventually

USERS = [f"user-{number}" for number in range(6)]
ROUNDS = 5


async def test_limits_changed_under_kills_are_never_exceeded_and_never_refuse_wrongly(world: World) -> None:
    seed = int(os.environ.get("DARKROOM_TEST_SEED", random.randrange(1 << 30)))
    print(f"DARKROOM_TEST_SEED={seed}")
    rng = random.Random(seed)
    await fund(world, USERS, 100_000)
    stop = asyncio.Event()
    traffic = asyncio.create_task(hammer(world, stop))
    worker = await world.start().ready()
    try:
        for _ in range(ROUNDS):
            change = {
                "limit": rng.randrange(0, 20),
                "window_s": rng.randrange(1, 6),
                "mode": rng.choice([Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW]),
            }
            await change_limits(world.settings, "maya.image", change)
            await moved_on(world, 300)
            worker.kill()
            worker = await world.start().ready()
            await moved_on(world, 300)
    finally:
        stop.set()
        await traffic
    await world.until_acked("admission", REQUESTED)
    assert await wrong_refusals(world) == []
    await assert_clean(world)


async def hammer(world: World, stop: asyncio.Event) -> None:
    """Everybody asks all the time, and sends one in ten requests twice."""
    number = 0
    while not stop.is_set():
        rows = [request(f"r{number}", user) for user in USERS]
        await world.produce(REQUESTED, rows + rows if number % 10 == 0 else rows)
        number += 1
        await asyncio.sleep(0.01)


async def moved_on(world: World, records: int) -> None:
    """Wait until so many more records are decided."""
    before = await world.handled("admit")

    async def moved() -> bool:
        return await world.handled("admit") >= before + records

    await eventually(moved, 40, f"admission stands still; {world.tails()}")


async def wrong_refusals(world: World) -> list[str]:
    """Refusals whose window had room for one more, by the limit that the refusal itself names."""
    at_ms = {(record.partition, record.offset): record.timestamp for record in await world.read(REQUESTED)}
    admitted = defaultdict(list)
    for row in await world.fetch(
        "SELECT user_id, (extract(epoch FROM admitted_at) * 1000)::bigint AS at_ms FROM generations"
    ):
        admitted[row["user_id"]].append(row["at_ms"])
    wrong, seen = [], 0
    for name, refusal in event_ids(await world.read(REJECTED)).items():
        partition, _, offset = name.rpartition("/")[2].partition("-")
        refused_ms = at_ms[int(partition), int(offset)]
        window_ms = refusal["window_s"] * 1000
        # The broker's clock may lag behind the partition's: what was admitted up to then is what counts.
        inside = [moment for moment in admitted[refusal["user_id"]] if refused_ms - window_ms < moment <= refused_ms]
        seen += 1
        if refusal["reason"] != "rate_limited" or len(inside) < refusal["limit"]:
            wrong.append(f"{name}: {json.dumps(refusal)} with {len(inside)} inside")
    assert seen > 100, "too few refusals to say anything"
    return wrong
