"""Requests by the client, decided by a real admission worker; over Kafka and over HTTP."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from models.topics import LIMITS
from streams import DarkroomClient
from streams.client import Conflict, InsufficientCredits, Invalid, Pending, RateLimited
from tests.faults.harness import World
from tests.support.waiting import eventually

TIMEOUT_S = 60.0


async def test_an_admission_has_its_price_and_is_the_same_when_asked_again(
    world: World, client: DarkroomClient
) -> None:
    await world.start().ready()
    first = await client.request("ada", "maya.image", "a boat", request_id="r1", timeout_s=TIMEOUT_S)
    assert (first.request_id, first.user_id, first.operation) == ("r1", "ada", "maya.image")
    assert first.balance == 100 - first.cost
    assert await client.request("ada", "maya.image", "a boat", request_id="r1", timeout_s=TIMEOUT_S) == first
    another = await client.request("ada", "maya.image", "a boat", timeout_s=TIMEOUT_S)
    assert another.request_id != "r1"
    assert another.balance == first.balance - another.cost
    with pytest.raises(Conflict) as conflict:
        await client.request("ada", "maya.image", "a ship", request_id="r1", timeout_s=TIMEOUT_S)
    assert conflict.value.request_id == "r1"


async def test_refusals_carry_their_fields(world: World, client: DarkroomClient) -> None:
    change = {"policy": "maya.image", "limit": 1, "window_s": 60, "mode": "enforce"}
    await world.produce(LIMITS, [("maya.image", msgspec.json.encode(change))])
    await world.start().ready()
    with pytest.raises(InsufficientCredits) as poor:
        await client.request("poor", "maya.image", "a boat", timeout_s=TIMEOUT_S)
    assert poor.value.current == 0 < poor.value.required

    async def limited() -> RateLimited | None:
        try:
            await client.request("ada", "maya.image", "a boat", timeout_s=TIMEOUT_S)
        except RateLimited as error:
            return error
        return None

    # A change of limits takes up to a second to reach the worker.
    refused = await eventually(limited, 60, "nothing was limited")
    assert (refused.policy, refused.limit, refused.window_s, refused.remaining) == ("maya.image", 1, 60, 0)
    assert 0 < refused.retry_after_s <= 60


async def test_of_two_contents_under_one_id_exactly_one_is_admitted(world: World, client: DarkroomClient) -> None:
    asking = [
        asyncio.create_task(client.request("ada", "maya.image", prompt, request_id="r1", timeout_s=TIMEOUT_S))
        for prompt in ("a boat", "a ship")
    ]
    worker = world.start()
    found = await asyncio.gather(*asking, return_exceptions=True)
    await worker.ready()
    assert sorted(type(one).__name__ for one in found) == ["Admission", "Conflict"]


async def test_many_requests_at_once_each_get_their_own_answer(world: World, client: DarkroomClient) -> None:
    await world.start().ready()
    names = [(user, f"{user}-{number}") for user in ("ada", "bob", "eve") for number in range(10)]
    found = await asyncio.gather(
        *(client.request(user, "maya.image", name, request_id=name, timeout_s=TIMEOUT_S) for user, name in names)
    )
    assert [(one.user_id, one.request_id) for one in found] == names


async def test_what_nobody_decides_is_pending_and_can_be_asked_again(world: World, client: DarkroomClient) -> None:
    with pytest.raises(Pending) as pending:
        await client.request("ada", "maya.image", "a boat", timeout_s=2.5)
    request_id = pending.value.request_id
    await world.start().ready()
    admitted = await client.request("ada", "maya.image", "a boat", request_id=request_id, timeout_s=TIMEOUT_S)
    assert admitted.request_id == request_id
    charges = await world.fetch("SELECT count(*) FROM ledger WHERE amount < 0")
    assert charges[0][0] == 1


async def test_bad_content_is_invalid_by_its_fields(client: DarkroomClient) -> None:
    with pytest.raises(Invalid) as invalid:
        await client.request("ada", "maya.image", "", num_outputs=99, context={"position": 0})
    assert {error.field for error in invalid.value.errors} >= {"prompt", "options.num_outputs", "context.position"}
    with pytest.raises(Invalid, match="UTF-8"):
        await client.request("ada", "maya.image", "\udc00")
    with pytest.raises(Invalid, match="request_id"):
        await client.request("ada", "maya.image", "x", request_id="a/b")


async def test_a_grant_is_booked_once(world: World, client: DarkroomClient) -> None:
    await world.start().ready()
    assert await client.grant("new", 7, grant_id="g1", timeout_s=TIMEOUT_S) == "g1"
    assert await client.grant("new", 7, grant_id="g1", timeout_s=TIMEOUT_S) == "g1"

    async def balance() -> int:
        rows = await world.fetch("SELECT balance FROM accounts WHERE user_id = 'new'")
        return int(rows[0][0]) if rows else 0

    assert await eventually(balance, 60, "the grant was not booked") == 7
    await client.grant("new", 1, grant_id="g2", timeout_s=TIMEOUT_S)

    async def has_both() -> bool:
        return await balance() == 8

    await eventually(has_both, 60, "the second grant was not booked")
