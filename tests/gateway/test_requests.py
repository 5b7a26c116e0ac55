"""Requests over HTTP, decided by a real admission worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from gateway.app import create_app
from models.access import Principal, Scope
from models.topics import GRANTED, LIMITS, REQUESTED
from streams.settings import load_settings
from tests.faults.conftest import world
from tests.faults.harness import World
from tests.gateway.conftest import SECRET
from tests.support.waiting import eventually

__all__ = ["world"]

PRINCIPALS = {
    "producer": Principal("t1", frozenset({Scope.PRODUCER})),
    "dashboard": Principal("t2", frozenset({Scope.DASHBOARD})),
    "operator": Principal("t3", frozenset({Scope.OPERATOR})),
    "ada": Principal("t4", frozenset({Scope.USER}), "ada"),
}
PICTURE = {"operation": "maya.image", "prompt": "a boat at dawn"}


class KnownTokens:
    """A token is the name of a principal; `revoked` are ids of those that are good no more."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    async def principal_of(self, token: str) -> Principal | None:
        return PRINCIPALS.get(token)

    async def is_still_good(self, principal: Principal) -> bool:
        return principal.token_id not in self.revoked

    async def principal_of_ticket(self, ticket: str) -> Principal | None:
        return PRINCIPALS.get(ticket.removeprefix("ticket-"))


@pytest.fixture
async def door(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway of the world's servers."""
    app = create_app(world.settings.model_copy(update={"replicate_webhook_secret": SECRET}))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60) as made,
    ):
        app.state.tokens = KnownTokens()
        yield made


async def post(client: httpx.AsyncClient, user: str = "ada", key: str | None = None, **changed: Any) -> httpx.Response:
    """A request in a user's name, waiting long enough for a loaded machine."""
    headers = {"authorization": "Bearer producer", "prefer": "wait=30"} | changed.pop("headers", {})
    if key is not None:
        headers["idempotency-key"] = key
    return await client.post("/v1/generations", json={"user_id": user, **PICTURE, **changed}, headers=headers)


async def test_a_request_is_answered_with_its_decision(world: World, door: httpx.AsyncClient) -> None:
    await world.open_accounts(["ada"], 100)
    await world.start().ready()
    admitted = await post(door, key="r1")
    assert admitted.status_code == 202, admitted.text
    body = admitted.json()
    assert admitted.headers["location"] == "/v1/generations/r1?user=ada"
    assert (body["state"], body["request_id"], body["balance"]) == ("admitted", "r1", 100 - body["cost"])
    assert admitted.headers["preference-applied"] == "wait=30"
    again = await post(door, key='"r1"')
    assert (again.status_code, again.json()) == (202, body)
    conflict = await post(door, key="r1", prompt="something else")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    made_here = await post(door)
    assert made_here.json()["request_id"] != (await post(door)).json()["request_id"]
    async with world.database() as held:
        charges = await held.fetchval("SELECT count(*) FROM ledger WHERE amount < 0 AND reference_id = 'ada/r1'")
    assert charges == 1


async def test_refusals_say_what_to_do(world: World, door: httpx.AsyncClient) -> None:
    await world.open_accounts(["ada"], 1000)
    change = {"policy": "maya.image", "limit": 1, "window_s": 60, "mode": "enforce"}
    await world.produce(LIMITS, [("maya.image", msgspec.json.encode(change))])
    await world.start().ready()

    poor = await post(door, "bob")
    assert (poor.status_code, poor.json()["code"], poor.json()["current"]) == (402, "insufficient_credits", 0)
    assert poor.json()["required"] > 0

    async def limited() -> httpx.Response | None:
        answer = await post(door)
        return answer if answer.status_code == 429 else None

    # A change of limits takes up to a second to reach the worker.
    refused = await eventually(limited, 30, "nothing was limited")
    assert refused.json()["code"] == "rate_limited"
    wait_s = int(refused.headers["retry-after"])
    assert 1 <= wait_s <= 60
    assert refused.json()["retry_after_s"] <= wait_s < refused.json()["retry_after_s"] + 1.001
    assert refused.headers["ratelimit-policy"] == '"maya.image";q=1;w=60'
    assert refused.headers["ratelimit"] == f'"maya.image";r=0;t={wait_s}'


@pytest.mark.parametrize("key", ["", '""', "  "])
async def test_an_empty_idempotency_key_is_refused_since_each_retry_would_be_charged(
    world: World, door: httpx.AsyncClient, key: str
) -> None:
    answer = await post(door, key=key)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "request_id")
    headers = {"authorization": "Bearer producer", "idempotency-key": key}
    granted = await door.post("/v1/grants", json={"user_id": "ada", "amount": 7}, headers=headers)
    assert (granted.status_code, granted.json()["code"]) == (422, "invalid")
    assert (await world.read(REQUESTED), await world.read(GRANTED)) == ([], [])


@pytest.mark.parametrize("grant_id", ["", 0, False, [], {}, "not an id", "g2"])
async def test_a_grant_whose_id_is_no_id_or_not_the_keys_is_refused(
    world: World, door: httpx.AsyncClient, grant_id: Any
) -> None:
    headers = {"authorization": "Bearer producer"} | ({"idempotency-key": "g1"} if grant_id == "g2" else {})
    answer = await door.post("/v1/grants", json={"user_id": "ada", "amount": 7, "grant_id": grant_id}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text


async def test_bad_content_is_refused_and_never_published(world: World, door: httpx.AsyncClient) -> None:
    for changed, field in (
        ({"operation": "no.such"}, "operation"),
        ({"prompt": ""}, "prompt"),
        ({"options": {"num_outputs": 99}}, "options"),
        ({"prompt": "x" * 4001}, "prompt"),
        ({"request_id": "not an id"}, "request_id"),
        ({"key": ""}, "request_id"),
        ({"key": '""'}, "request_id"),
        ({"request_id": 7}, "request_id"),
    ):
        answer = await post(door, **changed)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
        assert answer.json()["errors"][0]["field"].startswith(field)
        assert answer.headers["content-type"] == "application/problem+json"
    different = await post(door, key="one", request_id="two")
    assert different.status_code == 422
    headers = {"authorization": "Bearer producer"}
    assert (await door.post("/v1/generations", content=b"no json", headers=headers)).status_code == 400
    assert (await door.post("/v1/generations", content=b"[1]", headers=headers)).status_code == 400
    assert (await door.post("/v1/generations", content=b"x" * 70_000, headers=headers)).status_code == 413
    assert await world.read(REQUESTED) == []


async def test_only_who_may_act_for_a_user_can_ask(door: httpx.AsyncClient) -> None:
    async def status(token: str | None, **body: Any) -> int:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        answer = await door.post("/v1/generations", json={**PICTURE, **body}, headers={**headers, "prefer": "wait=0"})
        return answer.status_code

    assert await status(None, user_id="ada") == 401
    assert await status("nobody", user_id="ada") == 401
    assert await status("dashboard", user_id="ada") == 403
    assert await status("ada", user_id="bob") == 403
    assert await status("producer") == 422
    assert await status("ada") == 202


async def test_a_request_that_nobody_decides_is_undecided(world: World, door: httpx.AsyncClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await post(door, key="r1", headers={"prefer": "wait=0", "traceparent": trace})
    assert (answer.status_code, answer.json()["state"]) == (202, "undecided")
    assert answer.headers["location"] == "/v1/generations/r1?user=ada"
    # Whoever looks at the Location is told the same, without a search of the topics.
    headers = {"authorization": "Bearer producer"}
    looked = [await door.get(answer.headers["location"], headers=headers) for _ in range(30)]
    assert {(view.status_code, view.json().get("state")) for view in looked} == {(200, "undecided")}
    (record,) = await world.read(REQUESTED)
    assert dict(record.headers)["traceparent"] == trace.encode()
    assert record.key == b"ada"


async def test_a_decision_reaches_whoever_waits_whenever_it_is_made(world: World, door: httpx.AsyncClient) -> None:
    await world.open_accounts(["ada", "bob", "eve"], 100)
    waiting = [asyncio.create_task(post(door, user)) for user in ("ada", "bob", "eve")]
    await eventually(lambda: _published(world), 30, "not all were published")
    await world.start().ready()
    assert [(await task).json().get("state") for task in waiting] == ["admitted"] * 3


async def _published(world: World) -> bool:
    return len(await world.read(REQUESTED)) == 3


async def test_credits_are_given_once(world: World, door: httpx.AsyncClient) -> None:
    await world.start().ready()
    grant = {"grant_id": "g1", "user_id": "ada", "amount": 7, "kind": "purchase"}
    for _ in range(2):
        answer = await door.post("/v1/grants", json=grant, headers={"authorization": "Bearer producer"})
        assert answer.status_code == 202, answer.text
    assert (await door.post("/v1/grants", json=grant, headers={"authorization": "Bearer ada"})).status_code == 403
    wrong = await door.post("/v1/grants", json={**grant, "amount": -1}, headers={"authorization": "Bearer producer"})
    assert wrong.status_code == 422

    async def balance() -> int | None:
        async with world.database() as held:
            return await held.fetchval("SELECT balance FROM accounts WHERE user_id = 'ada'")

    assert await eventually(balance, 30, "the grant was not booked") == 7


async def test_kafka_away_is_said_within_three_seconds() -> None:
    app = create_app(
        load_settings(kafka="127.0.0.1:9", postgres="postgresql://127.0.0.1:9/none", redis="redis://127.0.0.1:9")
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60) as client,
    ):
        app.state.tokens = KnownTokens()
        async with asyncio.timeout(3):
            answer = await post(client, key="r1")
    assert (answer.status_code, answer.json()["code"], answer.json()["request_id"]) == (503, "unavailable", "r1")
    assert int(answer.headers["retry-after"]) > 0
