"""Two owners of one partition: the lock on the progress row decides, and whoever comes second loads again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from adapters.postgres import Pool, close_pool, open_pool
from agents.admit import AdmitStep
from models.errors import Fenced, TopicMadeAnew
from models.outputs import Output
from models.topics import ADMITTED, REQUESTED
from streams.delivery import Delivery
from streams.settings import Settings
from tests.faults.harness import World, admission_violations, request
from tests.unit.records import FakeRecord, request_value


class Kept:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []

    async def publish(self, partition: int, outputs: list[Output]) -> None:
        self.outputs += outputs


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    opened = await open_pool(settings.require("postgres"), size_max=4, application="test")
    yield opened
    await close_pool(opened)


@pytest.fixture
async def funded(pool: Pool) -> None:
    await pool.execute("INSERT INTO accounts (user_id, balance, version) VALUES ('u1', 100, 1)")


def records(first: int, last: int) -> list[FakeRecord]:
    return [FakeRecord(request_value(f"r{offset}"), offset=offset) for offset in range(first, last)]


async def test_the_new_owner_waits_for_the_old_owners_transaction_then_loads_again(pool: Pool, funded: None) -> None:
    old, new = (Delivery(AdmitStep(1), pool, Kept()) for _ in range(2))  # type: ignore[arg-type]
    session = await new.open(0, end_offset=10)
    async with pool.acquire() as held, held.transaction():
        await held.execute("SELECT 1 FROM stream_progress WHERE stream = 'admit' FOR UPDATE")
        handling = asyncio.create_task(session.handle(records(0, 5)))
        done, _ = await asyncio.wait({handling}, timeout=0.5)
        assert not done, "the step went on although the old owner's transaction was open"
        await held.execute("UPDATE stream_progress SET next_offset = 3 WHERE stream = 'admit'")
    with pytest.raises(Fenced):
        await handling
    assert await pool.fetchval("SELECT count(*) FROM generations") == 0
    again = await old.open(0, end_offset=10)
    assert again.position == 0


async def test_an_old_owner_that_comes_late_is_fenced_and_writes_nothing(pool: Pool, funded: None) -> None:
    kept_old, kept_new = Kept(), Kept()
    old = await Delivery(AdmitStep(1), pool, kept_old).open(0, 10)  # type: ignore[arg-type]
    new = await Delivery(AdmitStep(1), pool, kept_new).open(0, 10)  # type: ignore[arg-type]
    assert await new.handle(records(0, 5)) == 5
    with pytest.raises(Fenced):
        await old.handle(records(0, 5))
    assert kept_old.outputs == []
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 5


async def test_what_was_committed_but_not_acked_is_published_again_from_stored_decisions(
    pool: Pool, funded: None
) -> None:
    first, second = Kept(), Kept()
    session = await Delivery(AdmitStep(1), pool, first).open(0, 10)  # type: ignore[arg-type]
    await session.handle(records(0, 2))
    await session.handle(records(2, 5))
    again = await Delivery(AdmitStep(1), pool, second).open(0, 10)  # type: ignore[arg-type]
    assert again.position == 2
    await again.handle(records(2, 7))
    assert second.outputs[: 2 * 3] == first.outputs[2 * 2 :]
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 7


async def test_offsets_with_gaps_are_replayed_to_the_right_decisions(pool: Pool, funded: None) -> None:
    first, second = Kept(), Kept()
    sparse = [record for record in records(0, 9) if record.offset % 3]
    session = await Delivery(AdmitStep(1), pool, first).open(0, 10)  # type: ignore[arg-type]
    await session.handle(sparse)
    again = await Delivery(AdmitStep(1), pool, second).open(0, 10)  # type: ignore[arg-type]
    await again.handle(sparse)
    assert second.outputs == first.outputs
    assert await pool.fetchval("SELECT count(*) FROM ledger") == len(sparse)


async def test_a_topic_made_anew_is_refused_with_a_line_that_says_what_to_do(pool: Pool, funded: None) -> None:
    session = await Delivery(AdmitStep(1), pool, Kept()).open(0, 10)  # type: ignore[arg-type]
    await session.handle(records(0, 5))
    with pytest.raises(TopicMadeAnew, match=r"made anew.*delete the row"):
        await Delivery(AdmitStep(1), pool, Kept()).open(0, end_offset=4)  # type: ignore[arg-type]


async def test_a_worker_refuses_a_topic_made_anew_and_exits(world: World) -> None:
    async with world.database() as held:
        await held.execute("INSERT INTO stream_progress (stream, partition, next_offset) VALUES ('admit', 1, 9)")
    worker = world.start()
    assert await worker.ended() == 1
    assert "made anew" in worker.output()


async def test_a_topic_made_anew_with_as_many_records_is_refused_by_its_records(pool: Pool, funded: None) -> None:
    """Stored decisions must never be rendered onto somebody else's requests."""
    session = await Delivery(AdmitStep(1), pool, Kept()).open(0, 10)  # type: ignore[arg-type]
    await session.handle(records(0, 5))
    kept = Kept()
    again = await Delivery(AdmitStep(1), pool, kept).open(0, 10)  # type: ignore[arg-type]
    others = [replace(record, timestamp=record.timestamp + 60_000) for record in records(0, 8)]
    with pytest.raises(TopicMadeAnew, match=r"another record at offset 0.*delete the row"):
        await again.handle(others)
    assert kept.outputs == []


async def test_a_database_restored_to_an_earlier_moment_is_caught_up(world: World) -> None:
    await world.open_accounts(["u"], 100)
    await world.start().ready()
    await world.produce(REQUESTED, [request(f"r{number}", "u") for number in range(12)])
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    async with world.database() as held:
        await held.execute(
            "DELETE FROM generations; DELETE FROM ledger WHERE kind = 'charge';"
            " UPDATE accounts SET balance = 100, version = 1;"
            " UPDATE stream_progress SET prev_offset = 0, next_offset = 0, decisions = '', clock_ms = 0"
        )
    await world.start().ready()
    await world.until_handled("admit", REQUESTED)
    await world.produce(REQUESTED, [request("r99", "u")])
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert await admission_violations(world, opening_balance=100) == []
    assert len(await world.read(ADMITTED)) == 12 + 13
