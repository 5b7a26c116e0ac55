"""Server-sent events over real Kafka: nothing lost, nothing twice, on whichever copy of the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn

from gateway.access import StillGood
from gateway.app import create_app
from models.following import FollowedEvent
from models.outputs import EventStamp, Output
from models.topics import COMPLETED, REJECTED
from streams.following import EVENTS_WAITING_MAX
from streams.partitioning import partition_of
from streams.publisher import Publisher
from streams.reading import Reader
from streams.settings import Settings
from tests.faults.conftest import world
from tests.faults.harness import World
from tests.gateway.test_requests import KnownTokens
from tests.support.waiting import eventually

__all__ = ["world"]

WAIT_S = 30.0


class Event(NamedTuple):
    """One event as a client has it."""

    position: str
    kind: str
    body: dict[str, Any]


@asynccontextmanager
async def copy_of_gateway(settings: Settings) -> AsyncIterator[tuple[str, Any]]:
    """A gateway that serves on a port of its own, as (url, application)."""
    app = create_app(settings)
    app.state.tokens = KnownTokens()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started and app.state.hub.is_positioned, WAIT_S, "the gateway does not serve")
        app.state.tokens = KnownTokens()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", app
    finally:
        app.state.followers.close()
        server.should_exit = True
        await serving


@asynccontextmanager
async def following(
    url: str, token: str = "dashboard", last: str | None = None, **filters: Any
) -> AsyncIterator[AsyncIterator[Event]]:
    """A client's stream; its events, one by one."""
    headers = {"authorization": f"Bearer {token}"} | ({} if last is None else {"last-event-id": last})
    async with (
        httpx.AsyncClient(timeout=WAIT_S) as client,
        client.stream("GET", f"{url}/v1/events", params=filters, headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        yield _events(lines)


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if line == "" and "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
            fields = {}
        elif name:
            fields[name] = value


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """So many events."""
    async with asyncio.timeout(WAIT_S):
        return [await anext(events) for _ in range(count)]


def rejected(user: str, number: int, size: int = 0) -> Output:
    """A refusal, as admission publishes it."""
    body = {"request_id": f"r{number}", "user_id": user, "operation": "maya.image", "reason": "conflict"}
    event_id = f"{user}/r{number}/rejected/0-{number}"
    value = json.dumps({**body, "message": "m" * size}).encode()
    return (REJECTED, user.encode(), value, EventStamp(REJECTED, "admit").headers(event_id))


def completed(user: str, number: int) -> Output:
    """The end of a request, as the gallery publishes it."""
    body = {"request_id": f"r{number}", "user_id": user, "operation": "studio.images", "images": []}
    headers = EventStamp(COMPLETED, "gallery").headers(f"{user}/r{number}/completed")
    return (COMPLETED, user.encode(), json.dumps(body).encode(), headers)


@pytest.fixture
async def publish(world: World) -> AsyncIterator[Any]:
    """Publishes events to the partition of their user."""
    publisher = Publisher(world.settings.require("kafka"), client_id="tests", topic_prefix=world.settings.topic_prefix)

    async def publish(*outputs: Output) -> None:
        for output in outputs:
            assert output[1] is not None
            await publisher.publish(partition_of(output[1].decode(), world.settings.partitions), [output])

    yield publish
    await publisher.close()


def numbers(events: list[Event]) -> list[str]:
    """The ids of their requests."""
    return [event.body["data"]["request_id"] for event in events]


async def test_events_come_as_cloud_events_with_their_place(world: World, publish: Any) -> None:
    async with copy_of_gateway(world.settings) as (url, _), following(url) as events:
        await publish(rejected("ada", 1))
        (event,) = await take(events, 1)
    assert event.kind == REJECTED
    assert event.body["specversion"] == "1.0"
    assert event.body["id"] == "ada/r1/rejected/0-1"
    assert event.body["type"] == REJECTED
    assert event.body["data"]["user_id"] == "ada"
    assert event.body["partition"] == partition_of("ada", world.settings.partitions)
    assert event.body["offset"] == 0


async def test_a_follower_gets_what_it_asked_for_and_no_more(world: World, publish: Any) -> None:
    async with copy_of_gateway(world.settings) as (url, _), AsyncExitStack() as held:
        everything = await held.enter_async_context(following(url))
        of_ada = await held.enter_async_context(following(url, user="ada"))
        own = await held.enter_async_context(following(url, token="ada"))
        ends = await held.enter_async_context(following(url, type="completed"))
        studio = await held.enter_async_context(following(url, operation="studio.images", type=[REJECTED, "completed"]))
        await publish(rejected("ada", 1), rejected("bob", 2), completed("ada", 3), completed("bob", 4))
        assert sorted(numbers(await take(everything, 4))) == ["r1", "r2", "r3", "r4"]
        assert sorted(numbers(await take(of_ada, 2))) == ["r1", "r3"]
        assert sorted(numbers(await take(own, 2))) == ["r1", "r3"]
        assert sorted(numbers(await take(ends, 2))) == ["r3", "r4"]
        assert sorted(numbers(await take(studio, 2))) == ["r3", "r4"]


async def test_who_may_not_follow_is_told(world: World) -> None:
    async with copy_of_gateway(world.settings) as (url, _), httpx.AsyncClient(base_url=url) as client:

        async def status(token: str | None, **query: str) -> int:
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            return (await client.get("/v1/events", params=query, headers=headers)).status_code

        assert await status(None) == 401
        assert await status(None, ticket="ticket-nobody") == 401
        assert await status("ada", user="bob") == 403
        assert await status("dashboard", type="no.such") == 422
        assert await status("dashboard", position="nonsense") == 422
        assert await status("dashboard", user="ada", user_id="bob") == 422
        async with client.stream("GET", "/v1/events", params={"ticket": "ticket-dashboard"}) as response:
            assert response.status_code == 200


@pytest.mark.parametrize("where", ["memory", "Kafka"])
async def test_a_broken_stream_goes_on_at_another_copy(world: World, publish: Any, where: str) -> None:
    async with copy_of_gateway(world.settings) as (url, _), following(url) as events:
        await publish(*(rejected(f"u{number % 7}", number) for number in range(40)))
        first = await take(events, 25)
    await publish(*(rejected(f"u{number % 7}", number) for number in range(40, 60)))
    # A copy that follows is dropped, also by a process that has not sent the first of them.
    await publish(rejected("u0", 0), rejected("u1", 57 + 1))
    async with copy_of_gateway(world.settings) as (url, app):
        if where == "Kafka":
            app.state.hub.log.kept_from = app.state.hub.log.offsets.copy()
        async with following(url, last=first[-1].position) as events:
            await publish(completed("u9", 99))
            rest = await take(events, 37)
    found = numbers(first) + numbers(rest)
    expected = {f"r{number}" for number in range(60)} | {"r99"}
    copies = 62 - len(set(found))
    assert set(found) == expected
    assert copies == 1, "the copy under another name is an event of its own"


async def test_a_position_ahead_of_a_slow_copy_brings_nothing_twice(world: World, publish: Any) -> None:
    async with copy_of_gateway(world.settings) as (url, app):
        async with following(url) as events:
            await publish(*(rejected("ada", number) for number in range(5)))
            last = (await take(events, 5))[-1].position
        log = app.state.hub.log
        place = (REJECTED, partition_of("ada", world.settings.partitions))
        log.offsets[place] -= 2  # as if this copy had read less than the one before
        async with following(url, last=last) as events:
            await publish(rejected("ada", 5))
            assert numbers(await take(events, 1)) == ["r5"]


async def test_a_position_beyond_everything_is_gone(world: World, publish: Any) -> None:
    async with copy_of_gateway(world.settings) as (url, app):
        hub = app.state.hub
        beyond = {place: offset + 1_000 for place, offset in hub.log.offsets.items()}
        hub.log.offsets, kept = beyond, hub.log.offsets
        position = hub.position(None)
        hub.log.offsets = kept
        hub._positions.clear()
        async with following(url, last=position) as events:
            (bye,) = await take(events, 1)
    assert (bye.kind, bye.body["reason"]) == ("bye", "position_gone")


async def test_a_slow_client_is_dropped_with_a_reason(world: World, publish: Any) -> None:
    async with copy_of_gateway(world.settings) as (url, app), following(url) as events:
        follower = next(iter(app.state.followers._followers))
        await publish(rejected("ada", 0))
        await take(events, 1)
        # Nothing is sent while nothing may run in between: as a client does that takes nothing.
        for number in range(EVENTS_WAITING_MAX + 1):
            about = ("ada", f"r{number}", "maya.image", b"{}")
            follower.offer(FollowedEvent(REJECTED, 0, number, 0, f"e{number}", "/", *about))
        *_, bye = [event async for event in events]
    assert (bye.kind, bye.body["reason"]) == ("bye", "too_slow")


async def test_who_takes_old_events_slowly_makes_room_for_the_next(
    world: World, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.following.REPLAY_IDLE_S", -1.0)
    async with copy_of_gateway(world.settings) as (url, app):
        start = app.state.hub.position(None)
        await publish(*(rejected("ada", number) for number in range(3)))
        await eventually(lambda: app.state.hub.position(None) != start, WAIT_S, "nothing was read")
        app.state.hub.log.kept_from = dict.fromkeys(app.state.hub.log.offsets, 1 << 62)
        found, last = [], start
        for _ in range(3):
            async with following(url, last=last) as events:
                event, bye = await take(events, 2)
            assert (bye.kind, bye.body["reason"]) == ("bye", "too_slow")
            found.append(event)
            last = event.position
    assert numbers(found) == ["r0", "r1", "r2"]


async def test_reading_goes_on_after_whatever_the_driver_raises(
    world: World, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with copy_of_gateway(world.settings) as (url, _), following(url) as events:
        read, broken = Reader.read, [asyncio.CancelledError(), ValueError("a bug")]

        async def breaks(reader: Reader, timeout_s: float) -> Any:
            if broken:
                raise broken.pop()
            return await read(reader, timeout_s)

        monkeypatch.setattr(Reader, "read", breaks)
        await publish(rejected("ada", 1))
        assert numbers(await take(events, 1)) == ["r1"]
        await eventually(lambda: not broken, WAIT_S, "nothing broke")
        await publish(rejected("ada", 2))
        assert numbers(await take(events, 1)) == ["r2"]


async def test_a_gateway_that_ends_says_so_and_the_next_goes_on(world: World, publish: Any) -> None:
    async with copy_of_gateway(world.settings) as (url, app), following(url) as events:
        await publish(rejected("ada", 1))
        (event,) = await take(events, 1)
        app.state.followers.close()
        (bye,) = await take(events, 1)
    assert (bye.kind, bye.body["reason"]) == ("bye", "closing")
    await publish(rejected("ada", 2))
    async with copy_of_gateway(world.settings) as (url, _), following(url, last=event.position) as events:
        assert numbers(await take(events, 1)) == ["r2"]


async def test_an_idle_stream_ends_with_its_token(world: World, publish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.events.CHECK_S", 0.1)
    monkeypatch.setattr("gateway.events.StillGood", partial(StillGood, every_s=0.0))
    async with copy_of_gateway(world.settings) as (url, app), following(url) as events, following(url, "ada") as own:
        await publish(rejected("ada", 1))
        assert [numbers(await take(stream, 1)) for stream in (events, own)] == [["r1"], ["r1"]]
        app.state.tokens.revoked.add("t4")
        (bye,) = await take(own, 1)
        assert (bye.kind, bye.body["reason"]) == ("bye", "token_ended")
        await publish(rejected("ada", 2))
        assert numbers(await take(events, 1)) == ["r2"]


async def test_one_reader_serves_everybody(world: World, publish: Any) -> None:
    async with copy_of_gateway(world.settings) as (url, app), AsyncExitStack() as held:
        streams = [await held.enter_async_context(following(url, user=f"u{number}")) for number in range(50)]
        await publish(*(completed(f"u{number}", number) for number in range(50)))
        got = [numbers(await take(events, 1)) for events in streams]
        assert got == [[f"r{number}"] for number in range(50)]
        assert app.state.followers.count == 50
