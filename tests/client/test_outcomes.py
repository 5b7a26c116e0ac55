"""What becomes of requests, as the client sees it over either wire; the events are made here."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from models.errors import Unavailable
from models.outputs import Output
from models.results import read_as
from models.topics import CANCEL_REQUESTED
from streams import DarkroomClient
from streams.client import Admission, ClientEvent, GenerationFailed, Gone, Pending, Reference, WrongUse
from tests.cli.events import admitted, completed, event, failed, publish, rejected
from tests.client.conftest import MakeClient
from tests.faults.harness import World

TIMEOUT_S = 60.0


async def collected(client: DarkroomClient, wanted: int, **how: object) -> list[ClientEvent]:
    """The next events, as many as are wanted."""
    found: list[ClientEvent] = []
    if wanted:
        async for one in client.events(timeout_s=TIMEOUT_S, **how):  # type: ignore[arg-type]
            found.append(one)
            if len(found) == wanted:
                break
    return found


async def started(client: DarkroomClient, world: World, **how: object) -> tuple[asyncio.Task[list[ClientEvent]], str]:
    """A task that has begun to follow, as seen by the first event that reached it; and that event's position."""
    following = asyncio.create_task(collected(client, 1, **how))
    number = 0
    while not following.done():
        number += 1
        await publish(world.settings, "ada", admitted("ada", f"start-{number}", 1000))
        await asyncio.wait({following}, timeout=1)
    return following, following.result()[-1].position


async def ended(world: World, state: str, **changed: object) -> None:
    """The row of a request that has ended."""
    row: dict[str, object] = {
        "user_id": "ada", "request_id": "r1", "operation": "maya.image", "state": state, "cost": 1, "balance": 9,
        "version": 2, "prompt": "a boat", "options": "{}", "partition": 0, **changed,
    }  # fmt: skip
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    sql = f"INSERT INTO generations ({', '.join(row)}, admitted_at, finished_at) VALUES ({places}, now(), now())"
    async with world.database() as held:
        await held.execute(sql, *row.values())


async def test_pictures_come_to_whoever_waits(world: World, client: DarkroomClient) -> None:
    waiting = asyncio.create_task(client.completion(Reference("ada", "r1"), timeout_s=TIMEOUT_S))
    await publish(world.settings, "ada", completed("ada", "other"), completed("bob", "r1"))
    _, undone = await asyncio.wait({waiting}, timeout=3)
    assert undone, "another request's pictures were taken for ours"
    await ended(world, "completed")
    await publish(world.settings, "ada", completed("ada", "r1"))
    found = await waiting
    assert (found.request_id, found.user_id, found.cost) == ("r1", "ada", 1)
    assert (found.images[0].url, found.images[0].width) == ("http://gateway/r1.jpg", 8)


async def test_pictures_that_came_before_are_found(world: World, client: DarkroomClient) -> None:
    await publish(world.settings, "ada", completed("ada", "r1"))
    await ended(world, "completed")
    named = await client.completion(Reference("ada", "r1"), timeout_s=TIMEOUT_S)
    admitted_before = Admission("r1", "ada", "maya.image", 1, 9, 2, "2026-01-31T08:15:30.123Z")
    assert await client.completion(admitted_before, timeout_s=TIMEOUT_S) == named
    assert named.images[0].url == "http://gateway/r1.jpg"


async def test_a_failure_is_raised_with_what_was_given_back(world: World, client: DarkroomClient) -> None:
    await publish(world.settings, "ada", failed("ada", "r1"))
    await ended(world, "failed", reason="expired", refunded=1)
    with pytest.raises(GenerationFailed) as found:
        await client.completion(Reference("ada", "r1"), timeout_s=TIMEOUT_S)
    assert (found.value.reason, found.value.refunded) == ("expired", 1)


async def test_a_cancel_reaches_the_topic(world: World, client: DarkroomClient) -> None:
    await ended(world, "running")
    await client.cancel(Reference("ada", "r1"), timeout_s=TIMEOUT_S)
    (wish,) = await world.read(CANCEL_REQUESTED)
    assert (wish.key, msgspec.json.decode(wish.value)) == (b"ada", {"request_id": "r1", "user_id": "ada"})


async def test_what_does_not_end_is_pending(client: DarkroomClient) -> None:
    with pytest.raises(Pending) as pending:
        await client.completion(Reference("ada", "r1"), timeout_s=2.0)
    assert pending.value.request_id == "r1"


async def test_events_go_on_after_a_position_on_another_client_without_copies(
    world: World, make_client: MakeClient
) -> None:
    async with make_client() as first:
        _, position = await started(first, world)
    batch: list[Output] = [admitted("ada", "a", 1000), completed("ada", "a"), completed("ada", "a"), failed("ada", "b")]
    await publish(world.settings, "ada", *batch)
    await publish(world.settings, "bob", completed("bob", "c"))
    async with make_client() as second:
        found = await collected(second, 4, position=position)
        assert sorted(one.body["request_id"] for one in found) == ["a", "a", "b", "c"]
        assert len({one.id for one in found}) == 4
        assert {one.topic for one in found} == {one.type for one in found}
        again = await collected(second, 1, position=found[2].position)
        assert [one.id for one in again] == [found[3].id]


async def test_events_are_filtered_by_user_type_and_operation(world: World, make_client: MakeClient) -> None:
    async with make_client() as client:
        _, position = await started(client, world)
        _, of_ada = await started(client, world, user_id="ada")
        await publish(world.settings, "bob", completed("bob", "r1"))
        other = event("generations.failed.v1", "ada", "r2", operation="studio.images", reason="expired", message="x")
        await publish(world.settings, "ada", rejected("ada", "r1"), other)
        of_type = await collected(client, 1, types=["completed"], position=position)
        assert [one.body["user_id"] for one in of_type] == ["bob"]
        of_user = await collected(client, 2, user_id="ada", position=of_ada, types=["rejected", "failed"])
        assert {one.body["request_id"] for one in of_user} == {"r1", "r2"}
        of_operation = await collected(client, 1, operation="studio.images", position=position)
        assert [one.body["request_id"] for one in of_operation] == ["r2"]


async def test_following_ends_after_its_time(client: DarkroomClient) -> None:
    assert [one async for one in client.events(timeout_s=0.5)] == []


async def test_what_cannot_be_followed_is_wrong_use(client: DarkroomClient) -> None:
    for how in ({"types": ["lost"]}, {"user_id": "a b"}, {"position": "x", "since": "beginning"}):
        with pytest.raises(WrongUse):
            await collected(client, 1, **how)
    with pytest.raises((WrongUse, Gone)):
        await collected(client, 1, position="no position")


def test_an_answer_of_another_form_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        read_as(Admission, {"request_id": 7})
