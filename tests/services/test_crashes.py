"""Killed (-9) at every numbered point, one after the other: nothing is run twice, nothing is left undone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from adapters.sweeps import read_mark
from tests.gallery.conftest import add_picture

from .world import World

POINTS = [f"dispatcher:{point}" for point in (1, 2, 3, 4)] + [f"keeper:{point}" for point in (1, 2, 3)]
NOWHERE = "http://127.0.0.1:9"
RECONCILER_POINTS = [f"reconciler:{point}" for point in (1, 2)]


async def run_until_dead(world: World, database: str, blobs: Path, crash_at: str) -> int:
    """Run the services in another process; its exit status, negative for a signal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.doomed", database, world.emulator_url, str(blobs), NOWHERE, "0.6"),
        env={**os.environ, "DARKROOM_CRASH_AT": crash_at},
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(40.0):
        return await process.wait()


@pytest.mark.parametrize(
    ("points", "prompt"),
    [(POINTS, "a lake"), (RECONCILER_POINTS, "a lake [[fault:lost_answer]] [[fault:missing_webhook]]")],
    ids=["dispatcher and keeper", "reconciler"],
)
async def test_a_worker_killed_at_every_point_runs_and_stores_each_request_once(
    world: World, database: str, tmp_path: Path, points: list[str], prompt: str
) -> None:
    await world.queue("u1", "r1", "r2", prompt=prompt)
    await world.queue("u2", "r3", prompt=prompt, operation="studio.images", cost=4)
    for point in points:
        assert await run_until_dead(world, database, tmp_path / "blobs", point) == -signal.SIGKILL, point
    assert await run_until_dead(world, database, tmp_path / "blobs", "") == 0
    counts = await world.counts()
    assert counts["paid_twice"] == {}
    assert len(counts["requests"]) == 3
    assert await world.states() == {"completed": 3}
    stored = await world.pool.fetch("SELECT request_id, count(*) AS n FROM ai_images GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in stored] == [("r1", 1), ("r2", 1), ("r3", 4)]


async def test_a_sweeper_killed_at_every_point_deletes_what_is_nobody_s_and_nothing_else(
    world: World, database: str, tmp_path: Path
) -> None:
    shas = [f"00{number:062x}" for number in range(4)]
    keys = [f"images/00/{sha}.jpg" for sha in shas]
    for key in keys:
        await world.blobs.put(key, b"x")
        os.utime(tmp_path / "blobs" / key, (time.time() - 3 * 3600.0,) * 2)
    await add_picture(world.pool, "p-0", sha256=shas[0])
    await world.queue("u1", "r1")
    left = {"sweeper:1": keys, "sweeper:2": keys[:1]}
    for point, there in left.items():
        # What a dead sweeper has left open keeps the next one away for its time, and keepers of that folder too.
        assert await run_until_dead(world, database, tmp_path / "blobs", point) == -signal.SIGKILL, point
        assert sorted([found.key async for found in world.blobs.list("images/00")]) == there
        mark = await read_mark(world.pool)
        assert mark.began_at_s is not None
        assert mark.ended_at_s is None
    await world.pool.execute("UPDATE generations SET due_at = now() WHERE state = 'queued'")
    assert await run_until_dead(world, database, tmp_path / "blobs", "") == 0
    assert await world.states() == {"completed": 1}
    assert await world.blobs.exists(keys[0])
