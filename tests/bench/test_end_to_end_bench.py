"""The end-to-end benchmark itself: it runs everything, counts, and sees what is wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from bench.journeys import _Event, _figures, _Journey, _Run, _run_s
from streams.settings import Settings
from tests.faults.harness import environment_of

ROOT = Path(__file__).parents[2]


async def test_a_small_benchmark_completes_every_request_and_finds_nothing_wrong(stack: Settings) -> None:
    arguments = ("--requests", "60", "--users", "50", "--rate", "20", "--duration-s", "1", "--latency-max-s", "0.2")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.end_to_end", *arguments, "--long-side-px", "128"),
        cwd=ROOT,
        env=environment_of(stack),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode == 0, errors.decode()
    result = json.loads(output.splitlines()[-1])
    assert (result["bench"], result["violations"], result["requests"]) == ("end_to_end", 0, 140)
    assert result["per_s"] > 0
    assert 0 < result["own_p50_ms"] <= result["own_p99_ms"] < result["p99_ms"]
    assert set(result["cpu_ms_per_request"]) >= {"emulator", "gateway", "worker-admission", "worker-fulfilment"}


def test_our_share_is_what_the_run_at_the_provider_leaves() -> None:
    journeys = [_Journey(float(number), [number + 1.5], run_s=1.0) for number in range(100)]
    figures = _figures(journeys, epoch_s=1000.0)
    assert (figures["own_p50_ms"], figures["own_p99_ms"], figures["p50_ms"]) == (500.0, 500.0, 1500.0)
    assert figures["per_s"] == 1.0
    assert figures["steady_ms"] == [1_016_500, 1_086_500]


def test_a_run_is_as_long_as_the_provider_says_and_only_once_it_succeeded() -> None:
    run = _Run("2026-01-31T12:00:00.250000Z", "2026-01-31T12:00:01.000000Z")
    assert _run_s(_Event("r1", "succeeded", run)) == pytest.approx(0.75)
    assert _run_s(_Event("r1", "processing", run)) is None
    assert _run_s(_Event("r1", "succeeded", _Run("2026-01-31T12:00:00Z"))) is None


def test_nothing_completed_has_no_rate() -> None:
    figures = _figures([_Journey(0.0)], epoch_s=0.0)
    assert (figures["per_s"], figures["own_p99_ms"], figures["steady_ms"]) == (None, None, None)
