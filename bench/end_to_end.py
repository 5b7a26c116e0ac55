"""How many requests a second go all the way, from request to completion, and how much time we add to the provider's.

Run with `python -m bench.end_to_end`. Everything runs on this machine: Kafka, Postgres, Valkey, the provider's
emulator, the gateway, one worker a role. First a backlog is worked off, which gives the rate; then requests come at
half of that rate, which gives the times. At the end the books are audited, and every request must have completed, been
run once by the provider, and have its picture in the store. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from adapters.audit import audit
from adapters.blobs import open_blobs
from bench.arena import Arena
from bench.contestants import Usage
from bench.stage import run_bench, say
from bench.stages import stage_times
from bench.whole_system import WholeSystem, whole_system
from models.errors import DarkroomError
from streams.settings import Settings

PARTITIONS = 4
WARM_UP_S = 3.0
LOAD_TIMEOUT_S = 600.0
AFTER_S = 0.5


class LoadFailed(DarkroomError):
    """The process that sends the requests has ended badly."""

    code = "load_failed"


@dataclass(frozen=True)
class Options:
    """What to run. `rate` 0: half of what the backlog gives."""

    requests: int
    users: int
    offered: float
    rate: float
    duration_s: float
    latency_s: tuple[float, float]
    long_side_px: int
    seed: int


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit code 0 if nothing is wrong."""
    options = _options(arguments)
    return run_bench(lambda settings, home: asyncio.run(_measure(settings, options, home)), partitions=PARTITIONS)


async def _measure(running: Settings, options: Options, home: Path) -> dict[str, Any]:
    arena = Arena(running, options.users)
    await arena.open()
    try:
        # The roster of the servers stays with their home; the system's logs and pictures go to ours.
        settings = (await arena.new_round()).settings.model_copy(update={"home": home})
        with whole_system(settings, latency_s=options.latency_s, long_side_px=options.long_side_px) as system:
            servers = arena.server_pids()
            backlog = await _load(system, servers, options, options.offered, options.requests, 0)
            say(f"backlog:   {json.dumps(backlog)}")
            rate = options.rate or round((backlog["per_s"] or 2.0) / 2, 1)
            requests = int(rate * (WARM_UP_S + options.duration_s))
            paced = await _load(system, servers, options, rate, requests, int(rate * WARM_UP_S))
            say(f"at {rate:g}/s: {json.dumps(paced)}")
            say(f"stages:    {json.dumps(await stage_times(settings.require('postgres'), requests))}")
            violations = await _violations(system, [backlog, paced])
    finally:
        await arena.close()
    for name, count in violations.items():
        say(f"VOID: {name}: {count}")
    return {
        "bench": "end_to_end",
        "per_s": backlog["per_s"],
        "own_p50_ms": paced["own_p50_ms"],
        "own_p99_ms": paced["own_p99_ms"],
        "violations": sum(violations.values()),
        "rate": rate,
        "own_max_ms": paced["own_max_ms"],
        "p50_ms": paced["p50_ms"],
        "p99_ms": paced["p99_ms"],
        "requests": backlog["sent"] + paced["sent"],
        "cpu_ms_per_request": backlog["cpu_ms_per_request"],
        "cpu_ms_per_request_at_rate": paced["cpu_ms_per_request"],
    }


async def _load(
    system: WholeSystem, servers: dict[str, int], options: Options, rate: float, requests: int, warm_up: int
) -> dict[str, Any]:
    """Figures of one load, with the processor time of everybody while it was steady."""
    settings = system.settings
    usage = Usage({**system.pids(), **servers})
    sampling = asyncio.create_task(usage.sample())
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.journeys", settings.require("kafka"), settings.topic_prefix),
            *(str(settings.partitions), str(options.users), str(rate), str(requests), str(warm_up)),
            str(options.seed + warm_up),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), timeout=LOAD_TIMEOUT_S)
        if process.returncode:
            raise LoadFailed(f"the load ended with {process.returncode}")
        await asyncio.sleep(AFTER_S)
    finally:
        sampling.cancel()
    system.check()
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    first_ms, last_ms = figures.pop("steady_ms") or (0, 0)
    counted = max(1, figures.pop("steady_requests"))
    used = usage.between(first_ms, last_ms)
    figures["cpu_ms_per_request"] = {name: round(seconds * 1000 / counted, 2) for name, seconds in used.items()}
    return figures


async def _violations(system: WholeSystem, loads: list[dict[str, Any]]) -> dict[str, int]:
    """What is wrong, by name; empty if nothing is."""
    settings = system.settings
    sent = sum(load["sent"] for load in loads)
    findings = await audit(settings.require("postgres"))
    async with httpx.AsyncClient(timeout=60) as client:
        counts = (await client.get(f"{settings.replicate_base_url}/emulator/counts")).json()
    wrong = {
        **findings.counts,
        "not_completed": sent - sum(load["completed"] for load in loads),
        "told_twice": sum(load["told_twice"] for load in loads),
        "run_twice": len(counts["paid_twice"]),
        "never_run": sent - counts["requests_seen"],
        "rows_without_object": await _rows_without_object(settings, sent),
    }
    return {name: abs(count) for name, count in wrong.items() if count}


async def _rows_without_object(settings: Settings, expected: int) -> int:
    blobs = open_blobs(settings.blob_location)
    sizes = {listed.key: listed.size_bytes for name in ("images", "thumbnails") async for listed in blobs.list(name)}
    connection = await asyncpg.connect(settings.require("postgres"), timeout=10, command_timeout=120)
    try:
        rows = await connection.fetch("SELECT image_key, thumbnail_key, bytes FROM ai_images")
    finally:
        await connection.close()
    good = sum(sizes.get(row["image_key"]) == row["bytes"] and row["thumbnail_key"] in sizes for row in rows)
    return expected - good


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench.end_to_end", description=__doc__)
    parser.add_argument("--requests", type=int, default=6000, help="the backlog")
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--offered", type=float, default=1000.0, help="requests a second while the backlog is made")
    parser.add_argument("--rate", type=float, default=0.0, help="of the timed load; 0: half of the measured rate")
    parser.add_argument("--duration-s", type=float, default=40.0, help="of the timed load, without its warm-up")
    parser.add_argument("--latency-min-s", type=float, default=0.0, help="shortest run at the provider")
    parser.add_argument("--latency-max-s", type=float, default=2.0)
    parser.add_argument("--long-side-px", type=int, default=768)
    parser.add_argument("--seed", type=int, default=7)
    parsed = parser.parse_args(arguments)
    return Options(
        requests=parsed.requests,
        users=parsed.users,
        offered=parsed.offered,
        rate=parsed.rate,
        duration_s=parsed.duration_s,
        latency_s=(parsed.latency_min_s, parsed.latency_max_s),
        long_side_px=parsed.long_side_px,
        seed=parsed.seed,
    )


if __name__ == "__main__":
    sys.exit(main())
