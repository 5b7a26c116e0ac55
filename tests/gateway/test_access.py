"""Who may do what, at the gateway's door and on a real table of tokens."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, FastAPI

from adapters.postgres import Pool, close_pool, open_pool
from adapters.tokens import create_token, list_tokens, live_tokens, revoke_token
from gateway.access import Caller, CallerOrTicket
from gateway.app import create_app
from gateway.limits import needs_token
from models import tokens as rules
from models.access import Scope
from models.errors import Unavailable, WrongUse
from streams.settings import Settings
from tests.support.waiting import eventually

routes = APIRouter()


@routes.post("/v1/acts")
async def act(caller: Caller, user: str | None = None) -> str:
    return caller.acts_for(user)


@routes.get("/v1/reads")
async def read(caller: Caller, user: str | None = None) -> str | None:
    return caller.reads_of(user)


@routes.post("/v1/lever")
async def pull(caller: Caller) -> None:
    caller.operates()


@routes.get("/v1/stream")
async def stream(caller: CallerOrTicket) -> list[str | None]:
    return [caller.user_id, *sorted(caller.scopes)]


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The gateway with routes of the test's own."""
    app = create_app(settings)
    app.include_router(routes)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield app, client


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = await open_pool(settings.require("postgres"), size_max=2, application="test")
    yield pool
    await close_pool(pool)


Make = Callable[..., Awaitable[dict[str, str]]]


@pytest.fixture
def make(pool: Pool) -> Make:
    """Makes a token of these scopes; the headers to send it."""

    async def made(*scopes: str, **given: Any) -> dict[str, str]:
        token, _ = await create_token(pool, scopes, **given)
        return bearer(token)

    return made


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def assert_refused(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"


async def test_each_scope_opens_what_it_is_for(settings: Settings, make: Make) -> None:
    async with gateway(settings) as (_, client):
        for scope, acts, operates in (("producer", 200, 403), ("dashboard", 403, 403), ("operator", 403, 200)):
            headers = await make(scope)
            await eventually(lambda headers=headers: is_known(client, headers))
            assert (await client.post("/v1/acts?user=u1", headers=headers)).status_code == acts
            assert (await client.post("/v1/lever", headers=headers)).status_code == operates
            assert (await client.get("/v1/reads", headers=headers)).json() is None
            made = await client.post("/v1/user-tokens", json={"user_id": "u1"}, headers=headers)
            assert made.status_code == (201 if scope == "producer" else 403)


async def is_known(client: httpx.AsyncClient, headers: dict[str, str]) -> bool:
    return (await client.get("/v1/reads", headers=headers)).status_code == 200


async def test_nothing_below_v1_is_open_but_webhooks_and_pictures(offline_settings: Settings) -> None:
    app = create_app(offline_settings)
    described = app.openapi()["paths"]
    guarded = [(method, path) for path, methods in described.items() if needs_token(path) for method in methods]
    assert len(guarded) >= 2
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for method, path in guarded:
            address = path.replace("{", "").replace("}", "")
            assert_refused(await client.request(method.upper(), address), 401, "unauthorized")
            assert_refused(await client.request(method.upper(), address, headers=bearer("x")), 401, "unauthorized")
        for path in ("/healthz", "/metrics", "/openapi.json"):
            assert (await client.get(path)).status_code == 200


async def test_any_other_token_is_refused(settings: Settings, make: Make, pool: Pool) -> None:
    good = (await make("producer"))["authorization"].removeprefix("Bearer ")
    over = await make("producer", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked, revoked_id = await create_token(pool, ["producer"])
    assert await revoke_token(pool, revoked_id)
    async with gateway(settings) as (_, client):
        assert (await client.get("/v1/reads", headers=bearer(good))).status_code == 200
        for headers in (
            {}, over, bearer(revoked), bearer(good[:-1]), bearer(good + "x"), bearer(good.replace("dr_", "")),
            bearer(good[:24] + "A" * 39), bearer(""), {"authorization": good}, {"authorization": f"Basic {good}"},
            bearer("x" * 10_000),
        ):  # fmt: skip
            assert_refused(await client.get("/v1/reads", headers=headers), 401, "unauthorized")
        assert (await client.get(f"/v1/reads?token={good}")).status_code == 401
        assert (await client.get(f"/v1/reads?ticket={good}")).status_code == 401


async def test_a_revocation_takes_effect_within_a_few_seconds_while_the_token_is_in_use(
    settings: Settings, pool: Pool
) -> None:
    token, token_id = await create_token(pool, ["dashboard"])
    other, _ = await create_token(pool, ["dashboard"])
    async with gateway(settings) as (_, client):
        assert await is_known(client, bearer(token))
        assert await revoke_token(pool, token_id)

        async def is_refused() -> bool:
            return not await is_known(client, bearer(token))

        await eventually(is_refused, 8.0, "the token was not refused")
        assert await is_known(client, bearer(other))


async def test_a_user_s_token_does_and_sees_only_what_is_that_user_s(settings: Settings, make: Make) -> None:
    async with gateway(settings) as (_, client):
        producer = await make("producer")
        made = await client.post("/v1/user-tokens", json={"user_id": "u1"}, headers=producer)
        assert made.status_code == 201
        assert set(made.json()) == {"token", "expires_at"}
        left_s = (datetime.fromisoformat(made.json()["expires_at"]) - datetime.now(UTC)).total_seconds()
        assert 890 < left_s <= 900
        own = bearer(made.json()["token"])
        for method, path in (("POST", "/v1/acts"), ("GET", "/v1/reads")):
            for query in ("", "?user=u1"):
                answer = await client.request(method, path + query, headers=own)
                assert (answer.status_code, answer.json()) == (200, "u1")
            assert_refused(await client.request(method, path + "?user=u2", headers=own), 403, "forbidden")
        assert_refused(await client.post("/v1/lever", headers=own), 403, "forbidden")
        for user_id in ("u1", "u2"):
            response = await client.post("/v1/user-tokens", json={"user_id": user_id}, headers=own)
            assert_refused(response, 403, "forbidden")


@pytest.mark.parametrize(
    "wish",
    [{}, {"user_id": None}, {"user_id": "a b"}, {"user_id": ""}, {"user_id": "u" * 129}, {"user_id": 7},
     {"user_id": "u1", "ttl_s": 0}, {"user_id": "u1", "ttl_s": 86_401}, {"user_id": "u1", "ttl_s": 1.5},
     {"user_id": "u1", "ttl_s": "60"}, {"user_id": "u1", "ttl_s": True}, [], None],
)  # fmt: skip
async def test_a_wish_for_a_user_s_token_that_makes_no_sense_is_refused(
    settings: Settings, make: Make, wish: object
) -> None:
    async with gateway(settings) as (_, client):
        response = await client.post("/v1/user-tokens", json=wish, headers=await make("producer"))
        assert_refused(response, 422, "invalid")


async def test_a_ticket_is_its_holder_at_a_stream_and_nowhere_else(settings: Settings, make: Make) -> None:
    async with gateway(settings) as (app, client):
        dashboard, producer = await make("dashboard"), await make("producer")
        made = await client.post("/v1/user-tokens", json={"user_id": "u1", "ttl_s": 60}, headers=producer)
        own = bearer(made.json()["token"])
        for headers, holder in ((dashboard, [None, "dashboard"]), (own, ["u1", "user"])):
            made = await client.post("/v1/events/tickets", headers=headers)
            assert made.status_code == 201
            ticket = made.json()["ticket"]
            left_s = (datetime.fromisoformat(made.json()["expires_at"]) - datetime.now(UTC)).total_seconds()
            assert 50 < left_s <= 60
            assert (await client.get("/v1/stream", params={"ticket": ticket})).json() == holder
            principal = await app.state.tokens.principal_of_ticket(ticket)
            assert principal.user_id == holder[0]
            assert_refused(await client.get("/v1/reads", headers=bearer(ticket)), 401, "unauthorized")
            assert_refused(await client.get("/v1/reads", params={"ticket": ticket}), 401, "unauthorized")
        for wrong in ("", "x", own["authorization"].split()[1]):
            assert_refused(await client.get("/v1/stream", params={"ticket": wrong}), 401, "unauthorized")
        assert_refused(await client.post("/v1/events/tickets"), 401, "unauthorized")


async def test_while_postgres_is_away_nobody_can_be_known_but_pictures_and_health_are_there(
    offline_settings: Settings,
) -> None:
    async with gateway(offline_settings) as (_, client):
        token, _, _ = rules.token_text(bytes(8), bytes(32))
        assert_refused(await client.get("/v1/reads", headers=bearer(token)), 503, "unavailable")
        assert_refused(await client.get("/v1/reads", headers=bearer("made-up")), 401, "unauthorized")
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/images/nothing")).status_code == 404


async def test_no_token_is_logged(
    settings: Settings, make: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with gateway(settings) as (app, client):
        good = await make("producer")
        made = await client.post("/v1/user-tokens", json={"user_id": "u1"}, headers=good)
        ticket = (await client.post("/v1/events/tickets", headers=good)).json()["ticket"]
        await client.get("/v1/stream", params={"ticket": ticket})
        await close_pool(app.state.pool)
        await client.get("/v1/reads", headers=bearer("dr_0123456789abcdef_" + "A" * 43))
    said = caplog.text + "".join(capfd.readouterr())
    for token in (good["authorization"].split()[1], made.json()["token"], ticket, "A" * 43):
        assert token not in "\n".join(line for line in said.splitlines() if "HTTP Request" not in line)


# The table.


async def test_a_token_s_secret_is_nowhere_in_the_table(pool: Pool, settings: Settings) -> None:
    token, token_id = await create_token(pool, ["operator", "producer"], "the shop")
    secret = token.split("_", 2)[2]
    connection = await asyncpg.connect(settings.require("postgres"))
    row = await connection.fetchrow("SELECT *, tokens::text AS text FROM tokens")
    await connection.close()
    assert secret not in row["text"]
    assert secret.encode().hex() not in row["text"]
    (listed,) = await list_tokens(pool)
    assert (listed.token_id, listed.scopes, listed.name) == (token_id, ("producer", "operator"), "the shop")
    assert await live_tokens(pool) == {token_id: listed}


async def test_two_tokens_have_nothing_in_common(pool: Pool) -> None:
    made = [await create_token(pool, ["producer"]) for _ in range(20)]
    assert len({token_id for _, token_id in made}) == 20
    assert len({token.split("_", 2)[2] for token, _ in made}) == 20


async def test_a_revoked_token_stays_in_the_list_with_the_moment_of_its_first_revocation(pool: Pool) -> None:
    _, token_id = await create_token(pool, ["producer"])
    assert await revoke_token(pool, token_id)
    (first,) = await list_tokens(pool)
    assert first.revoked_at is not None
    assert await revoke_token(pool, token_id)
    assert await list_tokens(pool) == [first]
    assert await live_tokens(pool) == {}
    assert not await revoke_token(pool, "0000000000000000")


async def test_there_are_only_so_many_live_tokens(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.tokens.LIVE_MAX", 3)
    made = [await create_token(pool, ["producer"]) for _ in range(3)]
    await create_token_refused(pool)
    await revoke_token(pool, made[0][1])
    await create_token(pool, ["producer"], expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await create_token(pool, ["producer"])
    await create_token_refused(pool)
    assert len(await live_tokens(pool)) == 3


async def create_token_refused(pool: Pool) -> None:
    with pytest.raises(WrongUse, match="revoke some first"):
        await create_token(pool, ["producer"])


async def test_a_table_that_cannot_be_reached_is_unavailable() -> None:
    pool = await open_pool("postgresql://darkroom@127.0.0.1:9/darkroom", size_max=1, application="test")
    with pytest.raises(Unavailable):
        await live_tokens(pool)
    await close_pool(pool)


def test_scopes_in_the_rules_are_those_that_are_stored() -> None:
    assert set(rules.STORED_SCOPES) | {Scope.USER} == set(Scope)
