"""The benchmarks of the doors: they run everything, count, and see what is lost, doubled or late."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from bench.stream_clients import Client, at_share
from streams.settings import Settings
from tests.faults.harness import environment_of

ROOT = Path(__file__).parents[2]


async def outcome(stack: Settings, bench: str, *arguments: str) -> dict[str, Any]:
    """The last line of a benchmark that found nothing wrong."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"bench.{bench}", *arguments),
        cwd=ROOT,
        env=environment_of(stack),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), timeout=150)
    assert process.returncode == 0, errors.decode() + output.decode()
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


async def test_every_client_gets_every_event_of_its_user(stack: Settings) -> None:
    arguments = ("--clients", "60", "--users", "20", "--rate", "40", "--duration-s", "2")
    result = await outcome(stack, "event_streams", *arguments)
    assert (result["bench"], result["clients"], result["violations"]) == ("event_streams", 60, 0)
    # Three clients follow each user, so each of the 80 completions comes three times.
    assert result["deliveries"] == 240
    assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]


async def test_requests_are_decided_and_charged_beside_hostile_clients(stack: Settings) -> None:
    arguments = ("--rate", "20", "--duration-s", "3", "--users", "50", "--slow", "5", "--unauthorised-per-s", "50")
    result = await outcome(stack, "gateway_requests", *arguments)
    assert (result["bench"], result["requests"], result["violations"]) == ("gateway_requests", 120, 0)
    assert {"401", "413"} <= set(result["hostile_answers"])
    assert 1 <= result["database_connections"] <= 10
    assert 0 < result["p50_ms"] <= result["p99_ms"]


def test_a_gap_and_a_repetition_are_both_counted() -> None:
    client = Client("user-1")
    for sequence in (1, 2, 5, 5, 4):
        client.take(sequence, 0.001)
    assert (client.gaps, client.repeats, client.last) == (2, 2, 5)


def test_shares_are_of_what_was_measured() -> None:
    assert at_share([0.001, 0.002, 0.003], 0.5) == 2.0
    assert at_share([0.001, 0.002, 0.003], 1.0) == 3.0
    assert at_share([], 0.99) is None
