"""How long a partition's state takes to rebuild when a million users have entries in their windows.

Run with `python -m bench.rebuild`. Beside it, in the same run, the floor: the same rows fetched and thrown away.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import uuid
from statistics import median
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import uvloop

from adapters.admission_state import load_state
from adapters.migrate import migrate
from bench.stage import run_bench, say
from models.admission import PartitionState
from models.operations import POLICIES
from streams.settings import load_settings

CLOCK_MS = 1_790_000_000_000
POLICY = POLICIES["maya.image"]
FILL = """
INSERT INTO generations (user_id, request_id, operation, cost, balance, version, prompt, options, partition,
                         admitted_at, window_limit, window_s)
SELECT 'user-' || (n % $1::int), 'r' || n, $4, 1, 1, 1, 'a quiet harbour', '{}', 0,
       to_timestamp($2::bigint / 1000.0) - make_interval(secs => $3::float8 * n / $5::int), 30, 60
  FROM generate_series(0, $5::int - 1) AS n"""
FLOOR = "SELECT user_id, operation, admitted_at FROM generations WHERE partition = 0 ORDER BY admitted_at"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit code 0 if what was rebuilt is right."""
    parser = argparse.ArgumentParser(prog="python -m bench.rebuild", description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000, help="each with --entries admissions in the window")
    parser.add_argument("--entries", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    unused = {"kafka": "127.0.0.1:1", "redis": "redis://127.0.0.1:1"} if not load_settings().kafka else {}
    return run_bench(
        lambda settings, home: uvloop.run(
            _measure(settings.require("postgres"), options.users, options.entries, options.runs)
        ),
        **unused,
    )


async def _measure(server: str, users: int, entries: int, runs: int) -> dict[str, Any]:
    name = f"bench_{uuid.uuid4().hex[:8]}"
    keeper = await asyncpg.connect(server)
    await keeper.execute(f'CREATE DATABASE "{name}"')
    try:
        return await _rebuild(urlunsplit(urlsplit(server)._replace(path=f"/{name}")), users, entries, runs)
    finally:
        await keeper.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await keeper.close()


async def _rebuild(postgres: str, users: int, entries: int, runs: int) -> dict[str, Any]:
    migrate(postgres)
    connection = await asyncpg.connect(postgres, command_timeout=300)
    rows = users * entries
    spread_s = POLICY.window_s * 0.9
    await connection.execute(FILL, users, CLOCK_MS, spread_s, POLICY.name, rows)
    await connection.execute("VACUUM ANALYZE generations")
    gc.set_threshold(100_000, 20, 50)  # as a worker does
    took: dict[str, list[float]] = {"rebuild": [], "floor": []}
    violations = size_bytes = 0
    for number in range(runs):
        before_bytes = psutil.Process().memory_info().rss
        began = time.perf_counter()
        state = await load_state(connection, 0, CLOCK_MS, POLICIES)
        took["rebuild"].append(time.perf_counter() - began)
        # Later runs fill what earlier ones have left behind.
        size_bytes = size_bytes or psutil.Process().memory_info().rss - before_bytes
        violations += _wrong(state, users, entries)
        del state
        began = time.perf_counter()
        fetched = await connection.fetch(FLOOR)
        took["floor"].append(time.perf_counter() - began)
        violations += len(fetched) != rows
        del fetched
        say(f"run {number + 1}: rebuilt in {took['rebuild'][-1]:.2f} s; rows fetched alone {took['floor'][-1]:.2f} s")
    await connection.close()
    return {
        "bench": "rebuild",
        "users": users,
        "entries_per_user": entries,
        "seconds": round(median(took["rebuild"]), 2),
        "seconds_min_max": [round(min(took["rebuild"]), 2), round(max(took["rebuild"]), 2)],
        "fetch_alone_seconds": round(median(took["floor"]), 2),
        "ratio": round(median(took["rebuild"]) / median(took["floor"]), 2),
        "bytes_per_user": round(size_bytes / users),
        "violations": violations,
    }


def _wrong(state: PartitionState, users: int, entries: int) -> int:
    """Users whose entries are not all there."""
    missing = abs(state.windows.users() - users)
    return missing + sum(
        state.windows.remaining(POLICY, f"user-{number}", CLOCK_MS) != POLICY.limit - entries for number in range(users)
    )


if __name__ == "__main__":
    sys.exit(main())
