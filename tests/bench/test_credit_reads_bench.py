"""The credit cache's benchmark: it runs, and its checks see what is wrong."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.credit_readers import Record, read_closed_loop, read_open_loop
from bench.credit_reads import percentile_ms
from bench.freshness import Commits, Freshness
from bench.workload import zipf_picks
from models.errors import Unavailable
from streams.settings import Settings
from tests.faults.harness import environment_of

ROOT = Path(__file__).parents[2]


async def test_a_small_benchmark_runs_and_finds_nothing_wrong(stack: Settings, redis_url: str) -> None:
    arguments = ("--reads", "20000", "--direct-reads", "2000", "--warm-up", "5000", "--users", "500")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.credit_reads", *arguments, "--latency-s", "0.5", "--propagation-s", "5"),
        cwd=ROOT,
        env=environment_of(stack.model_copy(update={"redis": redis_url})),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode == 0, errors.decode()
    result = json.loads(output.splitlines()[-1])
    assert result["bench"] == "credit_reads"
    assert result["violations"] == 0, result
    assert result["reads"] == 20_000
    assert result["events"] > 0
    assert 0.9 < result["hit_rate"] <= 1
    assert 0.9 < result["queries_saved"] <= 1
    ratio = result["reads_per_core_s"] / result["direct_reads_per_core_s"]
    assert result["ratio"] == pytest.approx(ratio, rel=0.01)


def event(user_id: str, version: int, at_ms: int) -> SimpleNamespace:
    return SimpleNamespace(value=json.dumps({"user_id": user_id, "version": version}), timestamp=at_ms)


def shown(*reads: tuple[int, int, float]) -> Record:
    """A record of (user, version, began_s)."""
    record = Record()
    for user, version, began_s in reads:
        record.users.append(user)
        record.versions.append(version)
        record.began_s.append(began_s)
    return record


def test_a_read_is_stale_from_the_events_append_on_and_too_old_past_the_propagation() -> None:
    commits = Commits([event("ada", 2, 10_000), event("ada", 3, 20_000)], {"ada": 0, "bob": 1})
    fresh = shown((0, 1, 9.9), (0, 2, 10.5), (0, 3, 30.0), (1, 1, 30.0), (0, 1, 10.0))
    assert commits.check(fresh, 1.0) == Freshness(0, 0, 0)
    assert commits.check(shown((0, 1, 10.501), (0, 1, 11.5), (0, 2, 22.001)), 1.0) == Freshness(3, 2, 2000.0)


def test_events_that_were_published_out_of_order_or_twice_say_when_a_version_was_there() -> None:
    commits = Commits([event("ada", 3, 10_000), event("ada", 2, 12_000), event("ada", 3, 15_000)], {"ada": 0})
    assert commits.check(shown((0, 1, 11.001)), 5.0) == Freshness(1, 0, 1000.0)


async def test_a_read_that_shows_less_than_an_earlier_one_is_counted() -> None:
    versions = iter([1, 3, 2, 3])

    async def read(user: int) -> int:
        return next(versions)

    record = Record()
    await read_closed_loop([0, 0, 0, 0], 1, read, record)
    assert (len(record), record.backwards) == (4, 1)


async def test_reads_that_overlap_may_show_either_version() -> None:
    answers: dict[int, asyncio.Future[int]] = {}

    async def read(user: int) -> int:
        number = len(answers)
        answers[number] = asyncio.get_running_loop().create_future()
        return await answers[number]

    record = Record()
    reading = asyncio.create_task(read_closed_loop([0, 0], 2, read, record))
    while len(answers) < 2:
        await asyncio.sleep(0)
    answers[0].set_result(2)
    await asyncio.sleep(0)
    answers[1].set_result(1)
    await reading
    assert (list(record.versions), record.backwards) == ([2, 1], 0)


async def test_latency_counts_from_the_intended_time() -> None:
    async def read(user: int) -> int:
        time.sleep(0.01)
        return 1

    record = Record()
    await read_open_loop([0] * 5, 1_000_000, read, record)
    assert [took_s >= 0.01 * number for number, took_s in enumerate(record.took_s, 1)] == [True] * 5


async def test_a_read_that_fails_is_counted() -> None:
    async def read(user: int) -> int:
        raise Unavailable("Postgres", "it is away")

    record = Record()
    await read_closed_loop([0, 1], 2, read, record)
    assert (len(record), record.failed) == (0, 2)


def test_picks_are_the_same_for_a_seed_and_follow_the_order() -> None:
    picks = zipf_picks(random.Random(3), 100, 1.0, 20_000)
    assert picks == zipf_picks(random.Random(3), 100, 1.0, 20_000)
    assert 1.6 < picks.count(0) / picks.count(1) < 2.4
    assert set(picks) <= set(range(100))


def test_a_percentile_is_a_read_that_happened() -> None:
    record = Record()
    record.took_s.extend(number / 1000 for number in range(1, 101))
    assert (percentile_ms(record, 0.5), percentile_ms(record, 0.99)) == (51.0, 100.0)
    assert percentile_ms(Record(), 0.99) is None
