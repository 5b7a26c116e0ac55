"""What a request may cost: its body, its head, its number; and what every answer says to browsers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from starlette.types import Message

from gateway.access import Caller
from gateway.app import create_app
from gateway.limits import BODY_BYTES_MAX, CALLERS_MAX, HEADERS_MAX, STRANGER_BURST, BodyLimit, RateLimit, needs_token
from gateway.metrics import REFUSED
from models.access import Principal, Scope
from models.errors import Unavailable
from models.rates import Buckets
from streams.settings import Settings

from .conftest import PATH

PRODUCER = Principal("t1", frozenset({Scope.PRODUCER}))
echo = APIRouter()


@echo.post("/v1/echo")
async def answer_length(request: Request, caller: Caller) -> int:
    return len(await request.body())


@echo.get("/v1/bug")
async def break_it(caller: Caller) -> None:
    raise RuntimeError("hunter2")


class FakeTokens:
    """Knows `good` and `other`."""

    async def principal_of(self, token: str) -> Principal | None:
        if token == "away":
            raise Unavailable("Postgres", "away")
        return {"good": PRODUCER, "other": Principal("t2", frozenset({Scope.DASHBOARD}))}.get(token)

    async def principal_of_ticket(self, ticket: str) -> Principal | None:
        return PRODUCER if ticket == "good" else None


@asynccontextmanager
async def limited(settings: Settings, peer: str = "192.0.2.1", **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway with fake tokens and two routes of the test's own."""
    app = create_app(settings.model_copy(update=changed))
    app.state.tokens = FakeTokens()
    app.include_router(echo)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_body_is_taken_up_to_the_limit_and_not_beyond(offline_settings: Settings) -> None:
    async def in_parts(length: int) -> AsyncIterator[bytes]:
        for begin in range(0, length, 1000):
            yield b"x" * min(1000, length - begin)

    async with limited(offline_settings) as client:
        for length, status in ((BODY_BYTES_MAX, 200), (BODY_BYTES_MAX + 1, 413), (0, 200)):
            for content in (b"x" * length, in_parts(length)):
                response = await client.post("/v1/echo", content=content, headers=bearer("good"))
                assert response.status_code == status, length
                if status == 200:
                    assert response.json() == length
                else:
                    assert response.json()["code"] == "too_large"
                    assert response.headers["connection"] == "close"


async def test_a_body_that_claims_to_be_too_large_is_refused_unread() -> None:
    async def receive() -> Message:
        raise AssertionError("it was read")

    answer = await answer_of(BodyLimit(_never), [(b"content-length", b"9" * 30)], receive)
    assert answer["status"] == 413


async def test_a_body_that_comes_too_slowly_is_refused() -> None:
    first: list[Message] = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Message:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        raise AssertionError

    answer = await answer_of(BodyLimit(_never, timeout_s=0.05), [(b"transfer-encoding", b"chunked")], receive)
    assert answer["status"] == 408
    assert (b"connection", b"close") in answer["headers"]


async def test_who_leaves_in_the_middle_of_a_body_starts_nothing() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/echo", "headers": [(b"content-length", b"5")]}
    await BodyLimit(_never)(scope, receive, send)
    assert sent == []


async def _never(*given: Any) -> None:
    raise AssertionError("the application was called")


async def answer_of(app: Any, headers: list[tuple[bytes, bytes]], receive: Any) -> Message:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "path": "/v1/echo", "headers": headers, "query_string": b""}, receive, send)
    return sent[0]


async def test_too_many_headers_are_refused(offline_settings: Settings) -> None:
    async with limited(offline_settings) as client:
        few = {f"x-{number}": "y" for number in range(HEADERS_MAX - 10)}
        assert (await client.get("/healthz", headers=few)).status_code == 200
        many = {f"x-{number}": "y" for number in range(HEADERS_MAX + 1)}
        response = await client.get("/healthz", headers=many)
        assert (response.status_code, response.json()["code"]) == (431, "headers_too_large")
        assert (await client.get("/healthz?" + "x" * (16 << 10))).status_code == 431


async def test_a_token_has_its_own_number_of_requests(offline_settings: Settings) -> None:
    async with limited(offline_settings, token_requests_per_s=0.1) as client:
        assert (await client.post("/v1/echo", headers=bearer("good"))).status_code == 200
        counted = REFUSED.labels("too_many_requests")._value
        before = counted.get()
        refused = await client.post("/v1/echo", headers=bearer("good"))
        assert counted.get() == before + 1
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert (await client.post("/v1/echo", headers=bearer("other"))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_an_address_without_a_good_token_is_soon_refused_and_those_with_one_go_on(
    offline_settings: Settings,
) -> None:
    async with limited(offline_settings) as client:
        statuses = [
            (await client.post("/v1/echo", headers=bearer(f"made-up-{number}"))).status_code
            for number in range(int(STRANGER_BURST) + 50)
        ]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert (await client.post("/v1/echo")).status_code == 429
        assert (await client.post("/v1/echo", headers=bearer("good"))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_a_ticket_counts_as_a_token_at_the_stream_alone(offline_settings: Settings) -> None:
    called: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["path"])

    class Holder:
        class state:  # noqa: N801
            tokens = FakeTokens()

    limit = RateLimit(app, 100.0, 1.0, clock=lambda: 7.0)
    limit._strangers = Buckets(0.001, 1.0, 10)
    for path, query, authorization in (
        ("/v1/events", b"ticket=good", b""),
        ("/v1/events", b"ticket=bad", b""),
        ("/v1/echo", b"ticket=good", b""),
        ("/v1/events", b"", b"Basic good"),
    ):
        headers = [(b"authorization", authorization)] if authorization else []
        scope = {"type": "http", "app": Holder, "path": path, "headers": headers, "query_string": query,
                 "client": ("192.0.2.1", 1)}  # fmt: skip
        await limit(scope, _never, _ignore)
    assert called == ["/v1/events", "/v1/events"]


async def _ignore(message: Message) -> None:
    pass


async def test_while_tokens_cannot_be_read_the_answer_is_to_come_again(offline_settings: Settings) -> None:
    async with limited(offline_settings) as client:
        response = await client.post("/v1/echo", headers=bearer("away"))
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response.headers["retry-after"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz", 200), ("/v1/nothing", 404), ("/v1/echo", 401), ("/v1/bug", 500), ("/v1/images/nothing", 404)],
)
async def test_every_answer_tells_browsers_to_trust_nothing(offline_settings: Settings, path: str, status: int) -> None:
    async with limited(offline_settings) as client:
        method = "POST" if status == 401 else "GET"
        response = await client.request(method, path, headers={} if status == 401 else bearer("good"))
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in response.headers
    assert "hunter2" not in response.text


async def test_a_page_of_another_origin_may_call_only_when_it_is_named(offline_settings: Settings) -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,idempotency-key"}  # fmt: skip
    async with limited(offline_settings) as client:
        answer = await client.options("/v1/echo", headers=asked)
        assert "access-control-allow-origin" not in answer.headers
    async with limited(offline_settings, cors_origins=("https://app.example",)) as client:
        answer = await client.options("/v1/echo", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        refusal = await client.post("/v1/echo", headers={"origin": "https://app.example"})
        assert refusal.status_code == 401
        assert refusal.headers["access-control-allow-origin"] == "https://app.example"
        exposed = refusal.headers["access-control-expose-headers"].split(", ")
        assert {"retry-after", "ratelimit", "ratelimit-policy", "location"} <= set(exposed)
        answer = await client.options("/v1/echo", headers=asked | {"origin": "https://evil.example"})
        assert answer.status_code == 400
        assert "access-control-allow-origin" not in answer.headers


def test_what_needs_no_token_is_little() -> None:
    assert not needs_token(PATH)
    assert not needs_token("/v1/images/images/x.png")
    assert not needs_token("/healthz")
    assert needs_token("/v1/generations")
    assert needs_token("/v1/imagesx")
    assert needs_token("/v1/webhooks")


def test_a_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    buckets = Buckets(10.0, 5.0, 100)
    assert [buckets.take("a", 1.0) for _ in range(5)] == [0.0] * 5
    assert buckets.take("a", 1.0) == pytest.approx(0.1)
    assert buckets.take("b", 1.0) == 0.0
    assert buckets.take("a", 1.1) == 0.0
    assert buckets.take("a", 1.1) > 0
    assert [buckets.take("a", 100.0) for _ in range(5)] == [0.0] * 5
    assert buckets.take("a", 100.0) > 0


def test_buckets_take_bounded_memory_and_forget_the_idle_first() -> None:
    buckets = Buckets(1.0, 1.0, 100)
    for number in range(1000):
        buckets.take(str(number), 0.0)
        assert len(buckets) <= 100
    assert buckets.take("999", 0.0) > 0
    assert buckets.take("0", 0.0) == 0.0
    assert CALLERS_MAX <= 100_000
