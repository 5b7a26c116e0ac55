"""What is counted of steps that do not go smoothly: what is committed, once, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from adapters.exposition import exposition
from adapters.postgres import Pool, close_pool, connection, open_pool
from agents.admit import AdmitStep
from models.errors import Fenced, SetupFailed, Unavailable
from models.outputs import Output
from streams.delivery import Delivery, DeliverySession
from streams.health import HealthServer
from streams.settings import Settings
from tests.faults.test_fence import funded, pool
from tests.support.scraping import Scrape, parsed, scrape
from tests.support.waiting import eventually
from tests.unit.records import FakeRecord, request_value

__all__ = ["funded", "pool"]


BREAK_COMMITS = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''says the test''; END';
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON generations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.prompt = 'cursed') EXECUTE FUNCTION refuse();
"""
"""A batch with this prompt is decided and written whole, and cannot be committed."""


class Faltering:
    """A publisher that fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures

    async def publish(self, partition: int, outputs: list[Output]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("Kafka", "it is away, says the test")


def now() -> Scrape:
    return parsed(exposition("admission").decode())


def records(*prompts: str) -> list[FakeRecord]:
    return [FakeRecord(request_value(f"r{n}", prompt=prompt), offset=n) for n, prompt in enumerate(prompts)]


async def session_of(pool: Pool, publisher: Faltering) -> DeliverySession:
    return await Delivery(AdmitStep(1), pool, publisher).open(0, 1000)  # type: ignore[arg-type]


class Watch:
    """What the counters have grown by."""

    def __init__(self) -> None:
        self._before = now()

    def outcomes(self) -> dict[str, float]:
        counted = Counter(now().by("darkroom_requests_total", "outcome"))
        counted.subtract(self._before.by("darkroom_requests_total", "outcome"))
        return {outcome: count for outcome, count in counted.items() if count}

    def grown(self, name: str, **labels: str) -> float:
        return (now().value(name, **labels) or 0.0) - (self._before.value(name, **labels) or 0.0)


async def test_a_batch_that_is_halved_around_a_broken_record_counts_each_record_once(pool: Pool, funded: None) -> None:
    await pool.execute(BREAK_COMMITS)
    session, watch = await session_of(pool, Faltering()), Watch()
    await session.handle(records(*["fine"] * 5, "cursed", *["fine"] * 6))
    assert watch.outcomes() == {"admitted": 11, "dead": 1}
    assert watch.grown("darkroom_decision_seconds_count") == 12
    assert watch.grown("darkroom_credits_moved_total", kind="charge") == 11


async def test_a_fenced_step_counts_nothing_and_its_replay_neither(pool: Pool, funded: None) -> None:
    late = await session_of(pool, Faltering())
    await (await session_of(pool, Faltering())).handle(records("one", "two"))
    watch = Watch()
    with pytest.raises(Fenced):
        await late.handle(records("one", "two"))
    heir = await session_of(pool, Faltering())
    assert await heir.handle(records("one", "two")) == 2
    assert watch.outcomes() == {}
    assert watch.grown("darkroom_decision_seconds_count") == 0
    assert watch.grown("darkroom_credits_moved_total", kind="charge") == 0
    assert watch.grown("darkroom_step_replayed_records_total", stream="admit") == 2


async def test_publishing_that_is_tried_again_counts_its_decisions_once_and_each_failure(
    pool: Pool, funded: None
) -> None:
    session, watch = await session_of(pool, Faltering(failures=2)), Watch()
    await session.handle(records("one", "two", "three"))
    assert watch.outcomes() == {"admitted": 3}
    assert watch.grown("darkroom_decision_seconds_count") == 3
    assert watch.grown("darkroom_step_retries_total", stream="admit", server="Kafka") == 2


@pytest.fixture
async def small_pool(settings: Settings) -> AsyncIterator[Pool]:
    opened = await open_pool(settings.require("postgres"), size_max=2, application="of-a-test")
    yield opened
    await close_pool(opened)


async def test_a_pool_that_is_used_up_shows_who_waits_and_for_how_long(small_pool: Pool) -> None:
    def use(state: str) -> float | None:
        return now().value("darkroom_postgres_pool_connections", pool="of-a-test", state=state)

    def waiting() -> float | None:
        return now().value("darkroom_postgres_pool_waiting", pool="of-a-test")

    watch = Watch()
    async with connection(small_pool), connection(small_pool):
        assert (use("used"), use("idle"), waiting()) == (2, 0, 0)

        async def third() -> None:
            async with connection(small_pool):
                return

        asking = [asyncio.create_task(third()) for _ in range(3)]
        await eventually(lambda: waiting() == 3)
        asking[0].cancel()
        await eventually(lambda: waiting() == 2)
    await asyncio.gather(*asking[1:])
    assert (use("used"), use("idle"), waiting()) == (0, 2, 0)
    assert now().value("darkroom_postgres_pool_connections_max", pool="of-a-test") == 2
    assert watch.grown("darkroom_postgres_pool_acquire_seconds_count", pool="of-a-test") == 5
    assert watch.grown("darkroom_postgres_pool_failures_total", pool="of-a-test") == 1
    await close_pool(small_pool)
    assert (use("used"), use("idle")) == (0, 0)


async def test_a_pool_without_a_server_counts_its_failures(settings: Settings) -> None:
    nowhere = await open_pool("postgresql://nobody@127.0.0.1:9/none", size_max=1, application="of-nowhere")
    watch = Watch()
    with pytest.raises(Unavailable):
        async with connection(nowhere):
            raise AssertionError("connected")
    assert watch.grown("darkroom_postgres_pool_failures_total", pool="of-nowhere") == 1
    await close_pool(nowhere)


async def test_the_health_server_brings_its_measures_up_to_date_before_it_shows_them() -> None:
    refreshed = 0

    async def refresh() -> None:
        nonlocal refreshed
        refreshed += 1

    server = HealthServer(0, lambda: True, refresh, "projections")
    address = await server.start()
    found = await asyncio.to_thread(scrape, address)
    assert refreshed == 1
    assert "darkroom_lanes_open" in found.names()
    assert "darkroom_decision_seconds_count" not in found.names()
    second = HealthServer(int(address.rpartition(":")[2]), lambda: True, refresh, "projections")
    with pytest.raises(SetupFailed, match="DARKROOM_METRICS_PORT"):
        await second.start()
    await server.stop()
