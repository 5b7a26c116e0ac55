"""How soon a request over HTTP has its decision, alone and beside clients that mean no good.

Run with `python -m bench.gateway_requests`. The gateway, an admission worker and a projections worker run with Kafka,
Postgres and Valkey on this machine; requests come at a steady rate, at intended times, and wait for their decision. The
second load runs beside slow, oversized and unauthorised requests. At the end the books are audited, and everybody who
was told `admitted` must have been charged once. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from adapters.audit import audit
from bench.arena import Arena
from bench.gateway_process import gateway_process, new_token, with_gateway
from bench.stage import run_bench, say
from cli.children import darkroom
from models.access import Scope
from models.errors import DarkroomError
from streams.settings import Settings

PARTITIONS = 4
LOAD_TIMEOUT_S = 300.0
CONNECTIONS_MAX = 10
ANSWERS = {"202 admitted", "429 rate_limited"}


class LoadFailed(DarkroomError):
    """A process that sends requests has ended badly."""

    code = "load_failed"


@dataclass(frozen=True)
class Options:
    """What to run."""

    rate: float
    duration_s: float
    users: int
    slow: int
    unauthorised_per_s: float
    seed: int


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit code 0 if nothing is wrong."""
    options = _options(arguments)
    return run_bench(lambda settings, home: asyncio.run(_measure(settings, options, home)), partitions=PARTITIONS)


async def _measure(running: Settings, options: Options, home: Path) -> dict[str, Any]:
    arena = Arena(running, options.users)
    await arena.open()
    try:
        settings = with_gateway((await arena.new_round()).settings.model_copy(update={"home": home}))
        token = new_token(settings, Scope.PRODUCER)
        workers = [darkroom(role, ["worker", role], settings) for role in ("admission", "projections")]
        with gateway_process(settings, workers) as (url, _):
            alone = await _load(url, token, options, options.seed)
            say(f"alone:  {json.dumps(alone)}")
            async with _hostile(url, options) as answered:
                beside = await _load(url, token, options, options.seed + 1)
                connections = await _connections(settings)
            say(f"beside: {json.dumps(beside)}; they were answered {json.dumps(answered)}")
        wrong = await _violations(settings, [alone, beside], connections)
    finally:
        await arena.close()
    return {
        "bench": "gateway_requests",
        "rate": options.rate,
        "p50_ms": alone["p50_ms"],
        "p99_ms": alone["p99_ms"],
        "p50_beside_hostile_ms": beside["p50_ms"],
        "p99_beside_hostile_ms": beside["p99_ms"],
        "hostile_answers": answered,
        "database_connections": connections,
        "requests": alone["sent"] + beside["sent"],
        "violations": sum(wrong.values()),
        "violations_by_kind": wrong,
    }


async def _load(url: str, token: str, options: Options, seed: int) -> dict[str, Any]:
    requests = int(options.rate * options.duration_s)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.http_load", url, str(options.rate), str(requests)),
        *(str(requests // 5), str(options.users), str(seed)),
        env=os.environ | {"DARKROOM_BENCH_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), LOAD_TIMEOUT_S)
    if process.returncode:
        raise LoadFailed(f"the load ended with {process.returncode}")
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


@asynccontextmanager
async def _hostile(url: str, options: Options) -> AsyncIterator[dict[str, int]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.hostile_clients", url, str(options.slow), str(options.unauthorised_per_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    answered: dict[str, int] = {}
    try:
        yield answered
    finally:
        output, _ = await asyncio.wait_for(process.communicate(b"stop\n"), LOAD_TIMEOUT_S)
        answered.update(json.loads(output.splitlines()[-1]))


async def _connections(settings: Settings) -> int:
    connection = await asyncpg.connect(settings.require("postgres"), timeout=10, command_timeout=60)
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'darkroom-gateway'"
            " AND datname = current_database()"
        )
    finally:
        await connection.close()
    return found


async def _violations(settings: Settings, loads: list[dict[str, Any]], connections: int) -> dict[str, int]:
    findings = await audit(settings.require("postgres"))
    connection = await asyncpg.connect(settings.require("postgres"), timeout=10, command_timeout=60)
    try:
        charged = await connection.fetchval("SELECT count(*) FROM ledger WHERE kind = 'charge'")
    finally:
        await connection.close()
    told = sum(load["statuses"].get("202 admitted", 0) for load in loads)
    other = sum(count for load in loads for status, count in load["statuses"].items() if status not in ANSWERS)
    wrong = {
        **findings.counts,
        "charged_and_not_told": abs(charged - told),
        "not_answered": other,
        "too_many_connections": max(0, connections - CONNECTIONS_MAX),
    }
    return {name: count for name, count in wrong.items() if count}


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_requests", description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--duration-s", type=float, default=20.0, help="of each load, with its warm-up")
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--slow", type=int, default=200, help="connections that never finish a request")
    parser.add_argument("--unauthorised-per-s", type=float, default=1_000.0)
    parser.add_argument("--seed", type=int, default=7)
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
