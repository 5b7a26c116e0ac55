"""The runs: the same reads through the cache and straight from Postgres, while balances move the way they always do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import REGISTRY

from adapters.audit import audit
from adapters.credit_cache import CreditCache
from adapters.credit_reads import CreditReads
from adapters.postgres import Pool, close_pool, open_pool
from bench.arena import Arena, Round
from bench.contestants import Contestant, ContestantFailed, start_load, start_worker
from bench.credit_readers import Read, Record, read_closed_loop, read_open_loop
from bench.freshness import Commits
from bench.oracle import read_all
from bench.workload import user_names, zipf_picks
from models import topics
from streams.settings import Settings

DIRECT = "SELECT balance, version, unlimited FROM accounts WHERE user_id = $1"
POOL_SIZE = 8
GC_THRESHOLDS = (100_000, 20, 50)
"""As in a worker; the same for both."""
_SAMPLES = ("samples", "behind_samples", "stale_samples", "wrong_samples", "queries")


@dataclass(frozen=True)
class Options:
    """What to run."""

    reads: int
    direct_reads: int
    warm_up: int
    users: int
    exponent: float
    readers: int
    writes_per_s: int
    latency_rate: int
    latency_s: float
    propagation_s: float
    seed: int


class Bench:
    """All runs of one call."""

    def __init__(self, settings: Settings, options: Options, folder: Path, say: Callable[[str], None]) -> None:
        self._arena = Arena(settings, options.users)
        self._options = options
        self._folder = folder
        self._say = say
        self._names = user_names(options.users)
        self._pids = self._arena.server_pids()

    async def run(self) -> dict[str, Any]:
        """Everything, checked. Raises DarkroomError: it could not be run."""
        await self._insist_on_an_empty_cache()
        await self._arena.open()
        try:
            round_ = await self._arena.new_round()
            async with self._writing(round_) as projections, self._pool(round_) as pool:
                credits = CreditReads.connect(round_.settings.require("redis"), pool)
                try:
                    measured = await self._measure(credits, pool)
                finally:
                    await credits.close()
                sampled = await asyncio.to_thread(_sampled, projections)
            return await self._checked(round_, measured, sampled)
        finally:
            await self._arena.close()

    async def _measure(self, credits: CreditReads, pool: Pool) -> dict[str, Any]:
        names, options = self._names, self._options

        async def through_the_cache(user: int) -> int:
            return (await credits.read(names[user])).version

        async def direct(user: int) -> int:
            row = await pool.fetchrow(DIRECT, names[user])
            assert row is not None
            version: int = row[1]
            return version

        rng = random.Random(options.seed)
        warming, direct_record, cached_record = Record(), Record(), Record()
        await read_closed_loop(self._picks(rng, options.warm_up), options.readers, through_the_cache, warming)
        measured: dict[str, Any] = {"records": {"warm_up": warming, "cached": cached_record, "direct": direct_record}}
        measured["cold_misses"] = credits.counts.misses
        before, queries = replace(credits.counts), _own_queries()
        picks = self._picks(rng, options.reads)
        measured["cached"] = await self._full_speed("through the cache", picks, through_the_cache, cached_record)
        for name in ("hits", "misses", "fallbacks", "renewals"):
            measured[name] = getattr(credits.counts, name) - getattr(before, name)
        measured["queries"] = _own_queries() - queries
        picks = self._picks(rng, options.direct_reads)
        measured["direct"] = await self._full_speed("straight from Postgres", picks, direct, direct_record)
        for name, read in (("cached", through_the_cache), ("direct", direct)):
            record = measured["records"][f"{name}_latency"] = Record()
            picks = self._picks(rng, int(options.latency_rate * options.latency_s))
            await read_open_loop(picks, options.latency_rate, read, record)
        return measured

    async def _full_speed(self, what: str, picks: list[int], read: Read, record: Record) -> dict[str, float]:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        servers = {name: _used_s(pid) for name, pid in self._pids.items()}
        used_s, began_s = time.process_time(), time.perf_counter()
        await read_closed_loop(picks, self._options.readers, read, record)
        took_s, used_s = time.perf_counter() - began_s, time.process_time() - used_s
        figures = {"per_s": len(picks) / took_s, "per_core_s": len(picks) / used_s}
        for name, before_s in servers.items():
            figures[f"{name}_us"] = (_used_s(self._pids[name]) - before_s) * 1e6 / len(picks)
        shown = " ".join(f"{name} {value:,.1f}" for name, value in figures.items())
        self._say(f"{len(picks):,} reads {what} in {took_s:.2f} s: {shown}")
        return figures

    async def _checked(self, round_: Round, measured: dict[str, Any], sampled: dict[str, float]) -> dict[str, Any]:
        settings = round_.settings
        events = await read_all(settings.require("kafka"), [round_.topics.credits], settings.partitions)
        commits = Commits(events[round_.topics.credits], {name: number for number, name in enumerate(self._names)})
        if not commits.events:
            raise ContestantFailed("no balance moved while the readers read; nothing was tested")
        findings = await audit(settings.require("postgres"))
        freshness = {
            name: commits.check(record, self._options.propagation_s) for name, record in measured["records"].items()
        }
        return {**measured, "freshness": freshness, "events": commits.events, "audit": findings, "sampled": sampled}

    def _picks(self, rng: random.Random, picks: int) -> list[int]:
        return zipf_picks(rng, self._options.users, self._options.exponent, picks)

    async def _insist_on_an_empty_cache(self) -> None:
        cache = CreditCache(self._arena.settings.require("redis"))
        try:
            cursor = -1
            while cursor:
                cursor, held = await cache.scan(max(cursor, 0), 1_000)
                if held:
                    raise ContestantFailed("the cache at DARKROOM_REDIS is in use; give the bench an empty one")
        finally:
            await cache.close()

    @contextlib.asynccontextmanager
    async def _writing(self, round_: Round) -> AsyncIterator[Contestant]:
        """The real path: grants on Kafka, the admission worker that books them, the projections worker that follows."""
        settings, options = round_.settings, self._options
        async with contextlib.AsyncExitStack() as ending:
            workers = []
            for role in ("admission", "projections"):
                workers.append(start_worker(role, settings, self._folder / f"{role}.log"))
                ending.push_async_callback(workers[-1].stop)
            for worker in workers:
                await worker.ready()
            topic = settings.topic_prefix + topics.GRANTED
            arguments = [settings.require("kafka"), topic, settings.partitions, options.users, options.exponent]
            arguments += [options.writes_per_s, options.seed]
            writer = start_load([str(one) for one in arguments], self._folder / "writer.log")
            ending.push_async_callback(writer.stop)
            await writer.ready()
            yield workers[-1]
            for process in (*workers, writer):
                process.check()

    @contextlib.asynccontextmanager
    async def _pool(self, round_: Round) -> AsyncIterator[Pool]:
        pool = await open_pool(round_.settings.require("postgres"), size_max=POOL_SIZE, application="bench")
        try:
            yield pool
        finally:
            await close_pool(pool)


def _own_queries() -> float:
    return REGISTRY.get_sample_value("darkroom_credit_cache_queries_total") or 0.0


def _used_s(pid: int) -> float:
    """Processor seconds of a server, its children included, also those that have ended."""
    process = psutil.Process(pid)
    used_s = 0.0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            used_s += times.user + times.system
    ended = process.cpu_times()
    return used_s + ended.children_user + ended.children_system


def _sampled(projections: Contestant) -> dict[str, float]:
    """What the projections worker says of the cache."""
    found = re.search(r"health on (\S+)", projections.log.read_text())
    if found is None:
        raise ContestantFailed("projections does not say where its metrics are")
    text = urllib.request.urlopen(f"{found[1]}/metrics", timeout=5).read().decode()
    values = dict(re.findall(r"^darkroom_credit_cache_(\w+)_total (\S+)$", text, re.MULTILINE))
    return {name: float(values.get(name, 0)) for name in _SAMPLES}
