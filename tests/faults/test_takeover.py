"""Workers come, go, are stopped and are killed under traffic: nothing lost, nothing doubled, soon flowing again."""

from __future__ import annotations

import asyncio
import time

from models.topics import REQUESTED
from tests.faults.harness import World, admission_violations, request
from tests.support.waiting import eventually

USERS = [f"user-{number}" for number in range(200)]
TAKEOVER_S = 15.0


class Traffic:
    """A steady stream of requests until stopped, a tenth of them sent twice."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            rows = []
            for _ in range(10):
                rows.append(request(f"r{number}", USERS[number % len(USERS)]))
                number += 1
            if number % 100 == 0:
                rows += rows
            await self._world.produce(REQUESTED, rows)
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        await self._task


async def moving(world: World, timeout_s: float) -> float:
    """Seconds until every partition has moved on from where it is now."""
    began = time.monotonic()

    async def offsets() -> dict[int, int]:
        rows = await world.fetch("SELECT partition, next_offset FROM stream_progress WHERE stream = 'admit'")
        return {row["partition"]: row["next_offset"] for row in rows}

    before = await offsets()

    async def moved() -> bool:
        now = await offsets()
        return len(now) == world.settings.partitions and all(now[number] > before.get(number, 0) for number in now)

    await eventually(moved, timeout_s, f"not every partition moved; {world.tails()}")
    return time.monotonic() - began


async def test_workers_added_stopped_and_killed_under_traffic_lose_and_double_nothing(world: World) -> None:
    await world.open_accounts(USERS, 1000)
    first = await world.start().ready()
    traffic = Traffic(world)
    try:
        await moving(world, 10)
        second = await world.start().ready()
        await moving(world, TAKEOVER_S)
        assert await first.terminate() == 0
        await moving(world, TAKEOVER_S)
        third = await world.start().ready()
        await moving(world, TAKEOVER_S)
        second.kill()
        assert await moving(world, TAKEOVER_S) < TAKEOVER_S
    finally:
        await traffic.stop()
    await world.until_acked("admission", REQUESTED)
    assert await third.terminate() == 0
    assert await admission_violations(world, opening_balance=1000) == []


async def test_term_in_the_middle_of_a_backlog_loses_nothing_and_exits_in_time(world: World) -> None:
    await world.open_accounts(USERS, 1000)
    await world.produce(REQUESTED, [request(f"r{number}", USERS[number % 200]) for number in range(6000)])
    worker = world.start(DARKROOM_STEP_RECORDS_MAX="50")
    await eventually(lambda: world.handled("admit"), 30, "nothing was handled")
    assert await worker.terminate(timeout_s=10) == 0
    handled = await world.handled("admit")
    assert 0 < handled < 6000
    await world.start().ready()
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert await admission_violations(world, opening_balance=1000) == []
