"""A request's trace is on every fact that a service publishes about it, whichever service it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from adapters.postgres import transaction
from agents.generate import GenerateStep
from models.outputs import Header
from models.topics import PREDICTIONS, STORED
from streams.delivery import Batch
from tests.services.world import Settling, World, until
from tests.unit.records import FakeRecord

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Listening(Settling):
    """A publisher that remembers which trace each fact came with."""

    traces: list[tuple[str, str, str | None]] = field(default_factory=list)

    async def send(
        self, topic: str, key: bytes | None, value: bytes, headers: Sequence[Header] = ()
    ) -> tuple[int, int]:
        known = dict(headers)
        trace = known["traceparent"].decode() if "traceparent" in known else None
        self.traces.append((topic, known["ce_source"].decode().rpartition("/")[2], trace))
        return await super().send(topic, key, value, headers)


@pytest.fixture
def heard(world: World) -> Listening:
    world.publisher = Listening(world.pool)
    return world.publisher


async def ended(world: World, state: str) -> None:
    async def is_there() -> bool:
        return await world.states() == {state: 1}

    await until(is_there, f"the request is {state}")


async def test_a_picture_s_way_is_one_trace(world: World, heard: Listening) -> None:
    await world.queue("u1", "r1", traceparent=TRACE)
    async with world.running(world.dispatcher(), world.reconciler(), world.keeper()):
        await ended(world, "completed")
    assert {trace for _, _, trace in heard.traces} == {TRACE}
    sources = {(topic, source) for topic, source, _ in heard.traces}
    assert {(PREDICTIONS, "dispatcher"), (PREDICTIONS, "reconciler"), (STORED, "keeper")} <= sources


async def test_a_refusal_keeps_its_trace(world: World, heard: Listening) -> None:
    await world.queue("u1", "r1", traceparent=TRACE, prompt="a lake [[fault:refused]]")
    async with world.running(world.dispatcher()):
        await ended(world, "failed")
    assert heard.traces == [(PREDICTIONS, "dispatcher", TRACE)]


async def test_an_adopted_run_keeps_its_request_s_trace(world: World, heard: Listening) -> None:
    await world.queue("u1", "r1", traceparent=TRACE, prompt="a lake [[fault:lost_answer]]")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ended(world, "storing")
    assert {(source, trace) for _, source, trace in heard.traces} == {("reconciler", TRACE)}


async def test_giving_up_keeps_the_trace(world: World, heard: Listening) -> None:
    await world.queue("u1", "r1", traceparent=TRACE, age_s=60)
    async with world.running(world.reconciler(deadline_s=30.0)):
        await ended(world, "failed")
    assert set(heard.traces) == {(PREDICTIONS, "reconciler", TRACE)}


async def test_a_request_without_a_trace_has_none_later(world: World, heard: Listening) -> None:
    await world.queue("u1", "r1")
    async with world.running(world.dispatcher(), world.reconciler(), world.keeper()):
        await ended(world, "completed")
    assert {trace for _, _, trace in heard.traces} == {None}


async def test_queueing_writes_down_the_trace_of_the_first_answer(world: World) -> None:
    """An answer is given again when the request comes again, perhaps in another trace."""
    await world.queue("u1", "traced", "plain", state="admitted")
    said = [("traced", TRACE), ("traced", TRACE.replace("-01", "-00")), ("plain", "no trace")]
    records = [
        FakeRecord(
            msgspec.json.encode({"request_id": request_id, "user_id": "u1"}),
            offset=offset,
            headers=[("traceparent", trace.encode())],
        )
        for offset, (request_id, trace) in enumerate(said)
    ]
    step = GenerateStep()
    for again in (records, records[1:]):
        async with transaction(world.pool) as held:
            await step.apply(held, Batch(0, again, [step.read(record) for record in again], (), 0))
    assert (await world.row("u1", "traced"))["traceparent"] == TRACE
    assert (await world.row("u1", "plain"))["traceparent"] is None
