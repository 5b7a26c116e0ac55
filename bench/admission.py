"""How fast the admission worker is beside a hand-written loop: decided requests a second, and latency.

Run with `python -m bench.admission`. Both get the same preloaded input topic, in turns, each with fresh tables and
output topics. After every run the books are audited and every answer is compared with a replay of the input. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from bench.results import summary
from bench.rounds import Bench, Options
from bench.stage import run_bench, say

PARTITIONS = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit code 0 if no run was void."""
    options = _options(arguments)
    return run_bench(
        lambda settings, home: summary(asyncio.run(_measure(Bench(settings, options, home, say)))),
        partitions=PARTITIONS,
        redis="redis://127.0.0.1:1",
    )


async def _measure(bench: Bench) -> dict[str, Any]:
    await bench.open()
    try:
        return {"throughput": await bench.throughput(), "latency": await bench.latency()}
    finally:
        await bench.close()


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench.admission", description=__doc__)
    parser.add_argument("--requests", type=int, default=400_000, help="requests preloaded for each pair of runs")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3, help="pairs of throughput runs; 0 for none")
    parser.add_argument("--repeats", type=float, default=0.01, help="share of requests that repeat an earlier one")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--no-headers", action="store_true", help="the hand-written loop leaves CloudEvents headers out"
    )
    parser.add_argument("--latency-runs", type=int, default=3, help="latency runs of each; 0 for none")
    parser.add_argument("--latency-slow-s", type=float, default=20.0, help="how long at 200/s")
    parser.add_argument("--latency-fast-s", type=float, default=10.0, help="how long at 1,000/s")
    parsed = parser.parse_args(arguments)
    return Options(
        requests=parsed.requests,
        users=parsed.users,
        runs=parsed.runs,
        repeats=parsed.repeats,
        seed=parsed.seed,
        headers=not parsed.no_headers,
        latency_runs=parsed.latency_runs,
        latency_s={200: parsed.latency_slow_s, 1000: parsed.latency_fast_s},
    )


if __name__ == "__main__":
    sys.exit(main())
