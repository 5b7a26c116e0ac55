"""The benchmark itself: it runs, it counts, and its oracle sees what is wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.latency import _percentile
from bench.oracle import _replay
from bench.results import summary
from bench.workload import Workload
from streams.settings import Settings
from tests.faults.harness import environment_of

ROOT = Path(__file__).parents[2]


async def run_bench(stack: Settings, module: str, *arguments: str) -> dict[str, Any]:
    """The last line of a benchmark that must end well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        env=environment_of(stack),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode == 0, errors.decode()
    return json.loads(output.splitlines()[-1])


async def test_a_small_benchmark_runs_both_systems_and_finds_the_books_right(stack: Settings) -> None:
    arguments = ("--requests", "2000", "--users", "200", "--runs", "1", "--latency-runs", "0")
    result = await run_bench(stack, "bench.admission", *arguments)
    assert result["bench"] == "admission"
    assert result["violations"] == 0
    assert result["duplicates"] == 0
    assert result["ours_per_s"] > 0
    assert result["handwritten_per_s"] > 0
    assert result["ratio"] == pytest.approx(result["ours_per_s"] / result["handwritten_per_s"], rel=0.01)


async def test_a_small_rebuild_brings_every_entry_back(stack: Settings) -> None:
    result = await run_bench(stack, "bench.rebuild", "--users", "2000", "--entries", "3", "--runs", "1")
    assert (result["bench"], result["users"], result["violations"]) == ("rebuild", 2000, 0)
    assert result["seconds"] > 0


def test_the_same_seed_gives_the_same_requests_and_some_repeat() -> None:
    workload = Workload(requests=500, users=20, partitions=4, repeats=0.1, seed=3)
    records = list(workload.records())
    assert records == list(workload.records())
    assert len(records) == 500
    assert 400 < len({request_id for _, request_id, _ in records}) < 500


def test_the_replay_refuses_the_thirty_first_request_of_a_minute() -> None:
    body = json.dumps({"request_id": "r{}", "user_id": "u", "operation": "maya.image", "prompt": "p"})
    records = [
        SimpleNamespace(partition=0, offset=number, timestamp=1000 + number, value=body.replace("{}", str(number)))
        for number in range(31)
    ]
    expected = _replay(records, credits=100)
    assert len(expected.rows) == 30
    assert list(expected.rejected) == [("u/r30/rejected/0-30", "r30", "rate_limited", 59.97)]


def test_one_violation_makes_the_result_void() -> None:
    good = {"per_s": 100, "cpu_ms_per_1000": {"worker": 20.0}, "duplicates": 0, "violations": 0}
    pairs = [{"ours": good | {"violations": 1}, "handwritten": good | {"per_s": 200}}]
    result = summary({"throughput": pairs, "latency": []})
    assert result["ratio"] == 0.5
    assert result["violations"] == 1


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert _percentile([float(number) for number in range(1, 101)], 0.99) == 100.0
    assert _percentile([], 0.99) is None
