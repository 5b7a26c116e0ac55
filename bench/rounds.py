"""The runs: each contestant in turn, on fresh tables and topics, checked before the next one starts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from adapters.audit import audit
from bench.arena import Arena, Round
from bench.contestants import Contestant, ContestantFailed, Usage, start_handwritten, start_ours
from bench.oracle import Report, check
from bench.workload import CREDITS, Workload, preload
from streams.settings import Settings

CONTESTANTS = ("ours", "handwritten")
POLL_EVERY_S = 0.25
STALL_TIMEOUT_S = 60.0
SETTLE_S = 0.5


@dataclass(frozen=True)
class Options:
    """What to run. `latency_s` is rate -> seconds."""

    requests: int
    users: int
    runs: int
    repeats: float
    seed: int
    headers: bool
    latency_runs: int
    latency_s: dict[int, float]


class Bench:
    """All runs of one call."""

    def __init__(self, settings: Settings, options: Options, folder: Path, say: Callable[[str], None]) -> None:
        self._arena = Arena(settings, options.users)
        self._options = options
        self._folder = folder
        self._say = say
        self._kafka = settings.require("kafka")
        self._partitions = settings.partitions

    async def open(self) -> None:
        """Make the template of the databases."""
        await self._arena.open()

    async def close(self) -> None:
        """Leave the servers as they were."""
        await self._arena.close()

    async def throughput(self) -> list[dict[str, Any]]:
        """Pairs of runs over a preloaded topic, as {contestant: result}; who goes first changes."""
        pairs = []
        for number in range(self._options.runs):
            first = await self._arena.new_round()
            load = Workload(
                requests=self._options.requests,
                users=self._options.users,
                partitions=self._partitions,
                repeats=self._options.repeats,
                seed=self._options.seed + number,
            )
            await preload(self._kafka, first.topics.requested, load)
            pair: dict[str, Any] = {}
            for name in CONTESTANTS if number % 2 else reversed(CONTESTANTS):
                round_ = first if name == "ours" else await self._arena.new_round(first.topics.requested)
                pair[name] = result = await self._throughput_run(name, round_)
                self._say(f"run {number + 1}: {name:<12} {_shown(result)}")
            await self._arena.delete_topics_of(first)
            pairs.append(pair)
        return pairs

    async def _throughput_run(self, name: str, round_: Round) -> dict[str, Any]:
        async with self._contestant(name, round_) as contestant:
            usage = Usage({"worker": contestant.pid, **self._arena.server_pids()})
            sampling = asyncio.create_task(usage.sample())
            try:
                await self._all_decided(contestant, round_)
            finally:
                sampling.cancel()
        report, violations = await self._checked(name, round_)
        await self._arena.close_round(round_)
        duration_s = (report.last_ms - report.first_ms) / 1000
        used = usage.between(report.first_ms, report.last_ms)
        return {
            "per_s": round(self._options.requests / max(duration_s, 0.001)),
            "duration_s": duration_s,
            "cpu_ms_per_1000": {key: round(seconds * 1e6 / self._options.requests, 2) for key, seconds in used.items()},
            **_counts(report),
            "violations": violations,
        }

    async def latency(self) -> list[dict[str, Any]]:
        """Open-loop runs, as {contestant: {rate: figures}}; a bare echo is the third contestant."""
        runs = []
        for number in range(self._options.latency_runs):
            run: dict[str, Any] = {"echo": await self._echo(number)}
            for name in CONTESTANTS if number % 2 else reversed(CONTESTANTS):
                round_ = await self._arena.new_round()
                async with self._contestant(name, round_) as contestant:
                    await contestant.ready()
                    run[name] = await self._latencies(round_.topics.requested, round_, number, contestant)
                    contestant.check()
                _, run[name]["violations"] = await self._checked(name, round_)
                await self._arena.close_round(round_)
                await self._arena.delete_topics_of(round_)
            for name, figures in run.items():
                self._say(f"latency run {number + 1}: {name:<12} {json.dumps(figures)}")
            runs.append(run)
        return runs

    async def _echo(self, number: int) -> dict[str, Any]:
        topic = f"{self._arena.run}-echo-{number}"
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        try:
            await admin.start()
            await admin.create_topics([NewTopic(topic, self._partitions, 1)])
        finally:
            await admin.close()
        return await self._latencies(topic, None, number)

    async def _latencies(
        self, topic: str, round_: Round | None, number: int, contestant: Contestant | None = None
    ) -> dict[str, Any]:
        answers = topic if round_ is None else f"{round_.topics.admitted},{round_.topics.rejected}"
        measured: dict[str, Any] = {}
        for rate, duration_s in self._options.latency_s.items():
            await asyncio.sleep(SETTLE_S)
            seed = f"{self._options.seed}{number}{rate}"
            used_before_s = contestant.used_s() if contestant is not None else 0.0
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.latency", self._kafka, topic, answers, str(self._partitions)),
                *(str(self._options.users), str(rate), str(duration_s), seed),
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await asyncio.wait_for(process.communicate(), timeout=duration_s + 60)
            if process.returncode:
                raise ContestantFailed(f"the load ended with {process.returncode}")
            figures = measured[str(rate)] = json.loads(output.splitlines()[-1])
            if contestant is not None:
                # Its idle time before and after the load is in here too; that is what a person pays for.
                figures["cpu_ms_per_1000"] = round((contestant.used_s() - used_before_s) * 1e6 / figures["sent"], 1)
        return measured

    @contextlib.asynccontextmanager
    async def _contestant(self, name: str, round_: Round) -> AsyncIterator[Contestant]:
        log = self._folder / f"{round_.settings.topic_prefix}{name}.log"
        if name == "ours":
            contestant = start_ours(round_, log)
        else:
            contestant = start_handwritten(round_, log, headers=self._options.headers)
        try:
            yield contestant
        finally:
            await contestant.stop()

    async def _all_decided(self, contestant: Contestant, round_: Round) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka, group_id=None)
        await consumer.start()
        try:
            partitions = [
                TopicPartition(topic, number)
                for topic in (round_.topics.admitted, round_.topics.rejected)
                for number in range(self._partitions)
            ]
            consumer.assign(partitions)
            decided, moved_at = 0, time.monotonic()
            while decided < self._options.requests:
                await asyncio.sleep(POLL_EVERY_S)
                contestant.check()
                before, decided = decided, sum((await consumer.end_offsets(partitions)).values())
                if decided > before:
                    moved_at = time.monotonic()
                elif time.monotonic() - moved_at > STALL_TIMEOUT_S:
                    raise ContestantFailed(f"{contestant.name} stands still at {decided} of {self._options.requests}")
        finally:
            await consumer.stop()

    async def _checked(self, name: str, round_: Round) -> tuple[Report, int]:
        """The oracle's report and all violations together, the audit's included."""
        postgres = round_.settings.require("postgres")
        headers = self._options.headers or name == "ours"
        report = await check(
            self._kafka, postgres, round_.topics, partitions=self._partitions, credits=CREDITS, headers=headers
        )
        findings = await audit(postgres)
        wrong = {name: count for name, count in {**report.violations, **findings.counts}.items() if count}
        if wrong:
            self._say(f"VOID: {json.dumps(wrong)} {json.dumps(findings.examples)}")
        return report, sum(wrong.values())


def _counts(report: Report) -> dict[str, int]:
    return {name: asdict(report)[name] for name in ("admitted", "rejected", "repeated", "duplicates")}


def _shown(result: dict[str, Any]) -> str:
    used = ", ".join(f"{name} {value:g}" for name, value in result["cpu_ms_per_1000"].items())
    return (
        f"{result['per_s']:>7,}/s in {result['duration_s']:.2f} s; processor ms per 1,000: {used}; admitted "
        f"{result['admitted']:,} rejected {result['rejected']:,} repeated {result['repeated']:,} "
        f"duplicates {result['duplicates']} violations {result['violations']}"
    )
