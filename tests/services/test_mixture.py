"""Each of the provider's faults alone, and everything at once: all faults, users who cancel, workers that are killed.

`make mixture` runs the latter with more requests and says how it went; MIXTURE_REQUESTS and MIXTURE_SEED choose size
and seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.emulator.server import running_emulator

from .conftest import QUICK
from .door import open_door
from .emulator import emulator_apart
from .mixture import ANSWER_TIMEOUT_S, OPTIONS, RATES, REQUESTS_A_USER, Wish, admit, assert_whole, wishes
from .world import World, until, world_on

REQUESTS = int(os.environ.get("MIXTURE_REQUESTS") or 500)
WORKERS = 2
TIMEOUT_S = 180.0 + REQUESTS / 5
# Each point is passed about as often as there are requests.
CRASH_POINTS = [*(f"dispatcher:{n}" for n in (1, 2, 3, 4)), *(f"keeper:{n}" for n in (1, 2, 3)), "reconciler:1",
                "reconciler:2"]  # fmt: skip
CRASHES_WANTED = 8
KILLS = 3


# Each meeting doubles the wait, so these are met twice by some requests instead of by chance.
WAITED_FOR = ("rate_limited", "server_error", "lost_request")


@pytest.mark.parametrize("fault", RATES)
async def test_under_one_fault_alone_every_request_ends_once(database: str, tmp_path: Path, fault: str) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    asked = list(wishes(seed, REQUESTS_A_USER))
    rates = {fault: 0.5} | ({"missing_webhook": 1.0} if fault == "read_error" else {})
    if fault in WAITED_FOR:
        asked = [wish._replace(prompt=f"{wish.prompt} [[fault:{fault}*2]]") for wish in asked[::3]]
        rates = {}
    with running_emulator(replace(QUICK, seed=seed, fault_rates=rates)) as emulator_url:
        async with (
            world_on(database, emulator_url, str(tmp_path / "blobs")) as world,
            open_door(world.publisher) as world.webhook_base_url,
        ):
            await admit(world, asked)

            async def all_ended() -> bool:
                return set(await world.states()) <= {"completed", "failed", "cancelled"}

            async with world.running(world.dispatcher(), world.reconciler(), world.keeper(lease_s=0.5)):
                await cancel_some(world, asked, seed)
                await until(all_ended, "every request has ended", timeout_s=60.0)
            counts = await world.counts()
    await assert_whole(database, counts, asked)
    assert counts["totals"][f"fault_{fault}"] > 0


@pytest.mark.timeout(TIMEOUT_S + 60.0)
async def test_under_a_mixture_of_all_faults_every_request_ends_once(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("MIXTURE_SEED") or random.randrange(1 << 30))
    print(f"MIXTURE_SEED={seed}")
    asked = list(wishes(seed, REQUESTS))
    with emulator_apart(replace(OPTIONS, seed=seed)) as emulator_url:
        async with (
            world_on(database, emulator_url, str(tmp_path / "blobs")) as world,
            open_door(world.publisher) as world.webhook_base_url,
        ):
            await admit(world, asked)
            began = time.monotonic()
            arguments = (database, emulator_url, str(tmp_path / "blobs"), world.webhook_base_url, str(ANSWER_TIMEOUT_S))
            async with asyncio.timeout(TIMEOUT_S):
                deaths, *_ = await asyncio.gather(run_workers(arguments, seed), cancel_some(world, asked, seed))
            seconds = time.monotonic() - began
            ends = await assert_whole(database, await world.counts(), asked)
    if "MIXTURE_REQUESTS" in os.environ:
        with capsys.disabled():
            print(f"\nseed {seed}: {REQUESTS} requests in {seconds:.1f} s, deaths {dict(deaths)}, ends {dict(ends)}")
    assert {"completed", "provider_failed", "cancelled"} <= set(ends)


async def run_workers(arguments: tuple[str, ...], seed: int) -> Counter[str]:
    """Workers that die and are started again, until one of each has seen every request end. Says what they died of."""
    chance = CRASHES_WANTED / len(CRASH_POINTS) / REQUESTS
    armed = ",".join(f"{point}:p{chance}" for point in CRASH_POINTS)
    deaths: Counter[str] = Counter()

    async def run_one(number: int) -> None:
        moments = random.Random(seed + number)
        kills = KILLS
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.services.doomed", *arguments),
                env={**os.environ, "DARKROOM_CRASH_AT": armed},
                cwd=Path(__file__).parents[2],
                stdout=asyncio.subprocess.DEVNULL,
            )
            try:
                async with asyncio.timeout(moments.uniform(2.0, 8.0) if kills else None):
                    status = await process.wait()
            except TimeoutError:
                kills -= 1
                process.kill()
                await process.wait()
                deaths["at any moment"] += 1
                continue
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if status == 0:
                return
            assert status == -signal.SIGKILL, f"a worker ended with {status}"
            deaths["at a crash point"] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(WORKERS):
            group.create_task(run_one(number))
    return deaths


async def cancel_some(world: World, asked: list[Wish], seed: int) -> None:
    """At moments that have nothing to do with what their requests are doing."""
    moments = random.Random(seed)
    for wish in asked:
        if wish.is_cancelled:
            await asyncio.sleep(moments.expovariate(8.0 if REQUESTS < 500 else 12.0))
            await world.cancel(wish.user_id, wish.request_id)
