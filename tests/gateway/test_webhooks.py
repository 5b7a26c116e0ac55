"""The webhook door: only what the provider has signed goes in, and it is answered only once it is on Kafka."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.webhooks import BODY_BYTES_MAX, WebhookDoor
from models.errors import BadSetting
from models.topics import PREDICTIONS
from streams.facts import FactPublisher
from streams.settings import Settings

from .conftest import PATH, QUERY, client_of, fact_of, prediction, records_of, signed

OTHER_SECRET = "whsec_" + base64.b64encode(b"somebody else's secret, not ours").decode()
GOOD = json.dumps(prediction()).encode()


async def post(client: httpx.AsyncClient, body: bytes, headers: dict[str, str], **query: str) -> httpx.Response:
    return await client.post(PATH, content=body, headers=headers, params=query or QUERY)


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"/problems/{code}")
    assert body["title"]
    assert body["detail"]


async def test_a_signed_report_is_on_kafka_when_it_is_answered(
    client: httpx.AsyncClient, gateway_settings: Settings
) -> None:
    assert (await post(client, GOOD, signed(GOOD))).status_code == 204
    (record,) = await records_of(gateway_settings, PREDICTIONS)
    assert record.key == b"u1"
    fact = fact_of(record)
    assert (fact["user_id"], fact["request_id"], fact["status"]) == ("u1", "r1", "succeeded")
    assert (fact["source"], fact["prediction_id"]) == ("webhook", "p1")
    assert fact["prediction"]["output"] == ["http://x/out-0.jpg"]
    assert "logs" not in fact["prediction"]
    headers = dict(record.headers)
    assert headers["ce_id"] == b"u1/r1/prediction/p1/succeeded"
    assert headers["ce_type"] == b"predictions.updated.v1"
    assert headers["ce_source"] == b"/darkroom/gateway"


async def test_a_report_that_comes_twice_is_the_same_event_twice(
    client: httpx.AsyncClient, gateway_settings: Settings
) -> None:
    for _ in range(2):
        assert (await post(client, GOOD, signed(GOOD))).status_code == 204
    first, second = await records_of(gateway_settings, PREDICTIONS)
    assert (first.value, first.headers) == (second.value, second.headers)


async def test_what_is_not_signed_by_the_provider_is_refused(
    client: httpx.AsyncClient, gateway_settings: Settings
) -> None:
    changed = json.dumps(prediction(status="failed")).encode()
    headers = signed(GOOD)
    forgeries: list[tuple[bytes, dict[str, str]]] = [
        (GOOD, signed(GOOD, secret=OTHER_SECRET)),
        (changed, headers),
        (GOOD, {}),
        (GOOD, headers | {"webhook-id": "msg_2"}),
        (GOOD, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        (GOOD, headers | {"webhook-timestamp": "soon"}),
        (GOOD, headers | {"webhook-signature": "v1,"}),
        (GOOD, headers | {"webhook-signature": "v1,not base64!"}),
        (GOOD, headers | {"webhook-signature": "nothing"}),
        (b"", headers),
    ]
    for body, sent in forgeries:
        assert_problem(await post(client, body, sent), 401, "bad_signature")
    assert await records_of(gateway_settings, PREDICTIONS) == []


@pytest.mark.parametrize("ago_s", [301, 3600, -301])
async def test_a_report_that_was_signed_at_another_time_is_refused(offline: httpx.AsyncClient, ago_s: float) -> None:
    assert_problem(await post(offline, GOOD, signed(GOOD, ago_s=ago_s)), 401, "bad_signature")


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(offline: httpx.AsyncClient) -> None:
    large = b"x" * (BODY_BYTES_MAX + 1)
    assert_problem(await post(offline, large, signed(large)), 413, "too_large")

    async def in_parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * (BODY_BYTES_MAX // 50)

    response = await offline.post(PATH, content=in_parts(), headers=signed(large), params=QUERY)
    assert_problem(response, 413, "too_large")


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[]", b"7", b"{}", json.dumps(prediction(id="../p")).encode(), b'{"id": "p1"}',
     json.dumps(prediction(status=7)).encode(), json.dumps(prediction(status="x" * 65)).encode(), b"[" * 5000],
)  # fmt: skip
async def test_a_signed_body_that_is_no_prediction_is_refused(offline: httpx.AsyncClient, body: bytes) -> None:
    assert_problem(await post(offline, body, signed(body)), 400, "bad_body")


async def test_bytes_that_are_not_text_are_refused(offline: httpx.AsyncClient) -> None:
    assert_problem(await post(offline, b"\xff\xfe{}", signed(GOOD)), 400, "bad_body")


@pytest.mark.parametrize(
    "query", [{"user": "u1"}, {"request": "r1"}, {"user": "u 1", "request": "r1"}, {"user": "u1", "request": "r/1"}]
)
async def test_a_report_on_nobody_s_request_is_refused(offline: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert_problem(await post(offline, GOOD, signed(GOOD), **query), 400, "bad_query")


async def test_an_output_that_does_not_fit_an_event_is_left_out_and_the_others_stay(
    client: httpx.AsyncClient, gateway_settings: Settings
) -> None:
    body = json.dumps(prediction(output=["http://x/1.jpg", "http://x/" + "y" * 60_000])).encode()
    assert (await post(client, body, signed(body))).status_code == 204
    (record,) = await records_of(gateway_settings, PREDICTIONS)
    assert fact_of(record)["prediction"] == {"id": "p1", "status": "succeeded", "output": ["http://x/1.jpg", None]}


async def test_while_kafka_is_away_the_provider_is_soon_told_to_come_again(
    offline: httpx.AsyncClient,
) -> None:
    began = time.monotonic()
    responses = await asyncio.gather(*(post(offline, GOOD, signed(GOOD)) for _ in range(5)))
    assert time.monotonic() - began < 3.0
    for response in responses:
        assert_problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "2"


async def test_a_kafka_that_does_not_answer_is_away_too(offline_settings: Settings) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    silent = offline_settings.model_copy(update={"kafka": address})
    async with client_of(silent) as client:
        began = time.monotonic()
        answer, ready = await asyncio.gather(post(client, GOOD, signed(GOOD)), client.get("/readyz"))
        assert time.monotonic() - began < 3.0
    assert_problem(answer, 503, "unavailable")
    assert ready.status_code == 503
    server.close()


async def test_while_no_secret_is_set_nothing_is_taken(offline_settings: Settings) -> None:
    async with client_of(offline_settings.model_copy(update={"replicate_webhook_secret": ""})) as client:
        assert_problem(await post(client, GOOD, signed(GOOD)), 503, "unavailable")


async def test_what_breaks_inside_stays_inside(offline: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*given: Any) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(WebhookDoor, "take", broken)
    response = await post(offline, GOOD, signed(GOOD))
    assert_problem(response, 500, "internal")
    assert "hunter2" not in response.text


async def test_what_is_not_there_is_a_problem_too(offline: httpx.AsyncClient) -> None:
    assert_problem(await offline.get("/v1/nothing"), 404, "not_found")
    assert_problem(await offline.get(PATH), 405, "method_not_allowed")


def test_a_secret_in_another_form_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match="REPLICATE_WEBHOOK_SECRET"):
        WebhookDoor("hunter2", FactPublisher(None, "gateway"))  # type: ignore[arg-type]
