"""The client over Kafka: whose answer is whose, and what it does while the broker is away. Answers are made here."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import streams.event_hub
from devstack.roster import read_roster
from devstack.stack import start_stack, stop_stack
from models.outputs import EventStamp, Output
from models.topics import ADMITTED, REJECTED, REQUESTED
from streams import DarkroomClient
from streams.client import Conflict, Pending, Reference, Unavailable
from streams.reading import Reader
from streams.settings import Settings, load_settings
from streams.topics import apply_topics
from tests.cli.events import completed, event, publish

TIMEOUT_S = 60.0
FACTS = {"cost": 1, "balance": 9, "version": 2, "admitted_at": "2026-01-31T08:15:30.123Z"}


def admission(request_id: str, prompt: str) -> Output:
    return event(ADMITTED, "ada", request_id, operation="maya.image", prompt=prompt, options={}, **FACTS)


def conflict(request_id: str, partition: int, offset: int) -> Output:
    body = {"request_id": request_id, "user_id": "ada", "operation": "maya.image", "reason": "conflict", "message": "x"}
    headers = EventStamp(REJECTED, "admit").headers(f"ada/{request_id}/rejected/{partition}-{offset}")
    return (REJECTED, b"ada", msgspec.json.encode(body), headers)


async def next_requests(reader: Reader, count: int = 1) -> list[Any]:
    """The next records that are sent: whoever sends one waits for its answer already."""
    found: list[Any] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(found) < count:
            found += [record for _, record in await reader.read(0.5)]
    return found


@pytest.mark.usefixtures("applied_topics")
async def test_only_the_answer_to_the_very_record_counts(settings: Settings) -> None:
    async with Reader(settings, [REQUESTED]) as reader, DarkroomClient(settings=settings) as client:
        await reader.start_at_end()
        asking = asyncio.create_task(
            client.request("ada", "maya.image", "a ship", request_id="r1", timeout_s=TIMEOUT_S)
        )
        (sent,) = await next_requests(reader)
        # Somebody else's request of this id is admitted, and an earlier try of it refused.
        others = (admission("r1", "a boat"), conflict("r1", sent.partition, sent.offset + 1))
        await publish(settings, "ada", *others)
        _, undecided = await asyncio.wait({asking}, timeout=2)
        assert undecided
        await publish(settings, "ada", conflict("r1", sent.partition, sent.offset))
        with pytest.raises(Conflict):
            await asking


@pytest.mark.usefixtures("applied_topics")
async def test_all_calls_of_a_client_share_one_reader(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Reader] = []

    def counted(*arguments: Any) -> Reader:
        made.append(Reader(*arguments))
        return made[-1]

    monkeypatch.setattr(streams.event_hub, "Reader", counted)
    names = [f"r{number}" for number in range(20)]
    async with Reader(settings, [REQUESTED]) as reader, DarkroomClient(settings=settings) as client:
        await reader.start_at_end()
        asking = [
            asyncio.create_task(client.request("ada", "maya.image", "x", request_id=name, timeout_s=TIMEOUT_S))
            for name in names
        ]
        await next_requests(reader, len(names))
        await publish(settings, "ada", *(admission(name, "x") for name in names))
        assert [found.request_id for found in await asyncio.gather(*asking)] == names
    assert len(made) == 1


@pytest.mark.usefixtures("applied_topics")
async def test_following_can_begin_with_what_is_kept(settings: Settings) -> None:
    await publish(settings, "ada", *(completed("ada", f"r{number}") for number in range(3)))
    async with DarkroomClient(settings=settings) as client:
        found = []
        async for one in client.events(user_id="ada", since="beginning", timeout_s=TIMEOUT_S):
            found.append(one.body["request_id"])
            if len(found) == 3:
                break
    assert found == ["r0", "r1", "r2"]


async def test_a_broker_that_was_never_there_is_pending_within_the_timeout() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with DarkroomClient(kafka="127.0.0.1:9") as client:
        with pytest.raises(Pending) as pending:
            await client.request("ada", "maya.image", "x", request_id="r1", timeout_s=1.5)
        with pytest.raises(Pending):
            await client.completion(Reference("ada", "r1"), timeout_s=1.0)
        with pytest.raises(Unavailable):
            await client.grant("ada", 5, timeout_s=1.0)
    assert pending.value.request_id == "r1"
    assert loop.time() - began < 25


@pytest.fixture
def breakable(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A Kafka of the test's own, which may be killed."""
    home = tmp_path_factory.mktemp("breakable")
    bare = load_settings(home=home, partitions=2, kafka=None, postgres=stack.postgres, redis=stack.redis)
    try:
        yield start_stack(bare, attached=False, progress=lambda line: None)
    finally:
        stop_stack(bare)


async def test_a_client_outlives_a_broker_that_is_killed(breakable: Settings) -> None:
    settings = breakable
    await apply_topics(settings)
    async with DarkroomClient(settings=settings) as client:
        events = client.events(timeout_s=240)
        first = asyncio.create_task(anext(events))
        for number in range(240):
            await publish(settings, "ada", completed("ada", f"start-{number}"))
            if (await asyncio.wait({first}, timeout=1))[0]:
                break
        assert (await first).body["request_id"].startswith("start-")
        waiting = asyncio.create_task(client.completion(Reference("ada", "r1"), timeout_s=240))
        os.kill(read_roster(settings.home / "stack.json")["kafka"].pid, signal.SIGKILL)
        with pytest.raises(Pending):
            await client.request("ada", "maya.image", "x", request_id="r2", timeout_s=3.0)
        granting = asyncio.create_task(client.grant("ada", 5, grant_id="g1", timeout_s=240))
        bare = settings.model_copy(update={"kafka": None})
        await asyncio.to_thread(start_stack, bare, attached=False, progress=lambda line: None)
        await publish(settings, "ada", completed("ada", "r1"))
        assert (await waiting).request_id == "r1"
        assert await granting == "g1"
        async for one in events:
            if one.body["request_id"] == "r1":
                break
        else:
            raise AssertionError("the event was missed")
        async with Reader(settings, [REQUESTED]) as reader:
            await reader.start_at_end()
            asking = asyncio.create_task(client.request("ada", "maya.image", "x", request_id="r2", timeout_s=120))
            await next_requests(reader)
        await publish(settings, "ada", admission("r2", "x"))
        assert (await asking).balance == 9
