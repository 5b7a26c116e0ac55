"""What became of a request, its timeline, and its cancelling, over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import httpx
import pytest

from adapters.postgres import Pool
from adapters.reads import read_generation
from gateway import generation_reads, searching
from gateway.bounds import Places, in_time, within
from gateway.searching import AT_ONCE_MAX, SEARCHES_MAX, TIMELINES_MAX
from models.errors import Unavailable
from models.timeline import Event
from models.topics import ADMITTED, CANCEL_REQUESTED, REJECTED, REQUESTED
from streams.settings import Settings
from tests.cli.events import admitted, completed, event, publish, rejected
from tests.gateway.callers import ADA, BEN, DASHBOARD, PRODUCER, assert_problem, caller_of
from tests.gateway.conftest import fact_of, records_of
from tests.support.waiting import eventually

AWAY = "127.0.0.1:9"


def path(request_id: str, suffix: str = "") -> str:
    return f"/v1/generations/{request_id}{suffix}"


class Hub:
    """Remembers one decision."""

    def __init__(self, **known: dict[str, Any]) -> None:
        self._known = known

    def recent(self, user_id: str, request_id: str) -> dict[str, Any] | None:
        return self._known.get(request_id)


async def test_a_completed_request_shows_its_outputs(books: httpx.AsyncClient) -> None:
    found = (await books.get(path("short"), headers=ADA)).json()
    assert (found["state"], found["operation"], found["user_id"]) == ("completed", "studio.images", "ada")
    assert found["refunded"] > 0
    assert found["cost"] > found["refunded"]
    assert found["prediction_id"] == "p-ada-short"
    assert [image["image_id"] for image in found["images"]] == ["p-ada-short-0", "p-ada-short-1"]
    assert found["images"][0]["url"] == "http://gateway/i/short/0"
    assert found["admitted_at"] <= found["finished_at"]
    assert found["finished_at"].endswith("Z")
    assert "reason" not in found


async def test_a_video_is_an_output_too_and_a_deleted_picture_is_not(books: httpx.AsyncClient) -> None:
    (video,) = (await books.get(path("video"), headers=ADA)).json()["images"]
    assert (video["image_id"], video["content_type"], video["thumbnail_url"]) == ("p-ada-video-0", "video/mp4", "")
    thinned = (await books.get(path("thinned"), headers=ADA)).json()
    assert [image["output_index"] for image in thinned["images"]] == [0, 2, 3]


async def test_a_trained_model_is_shown_while_it_is_the_user_s(books: httpx.AsyncClient) -> None:
    newer = (await books.get(path("newer"), headers=BEN)).json()
    assert newer["model"]["version"] == "darkroom/portraits:newer"
    assert newer["images"] == []


async def test_a_failure_says_why(books: httpx.AsyncClient) -> None:
    failed = (await books.get(path("failed"), headers=BEN)).json()
    assert (failed["state"], failed["reason"]) == ("failed", "provider_failed")
    assert failed["message"] == "The picture could not be made."
    assert failed["refunded"] == failed["cost"]
    cancelled = (await books.get(path("cancelled"), headers=BEN)).json()
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "cancelled")


async def test_a_request_under_way_has_no_outputs_yet(books: httpx.AsyncClient) -> None:
    waiting = (await books.get(path("waiting"), params={"user_id": "ada"}, headers=PRODUCER)).json()
    assert (waiting["state"], waiting["images"]) == ("queued", [])
    assert "finished_at" not in waiting


async def test_a_token_for_all_users_finds_a_request_by_its_id_alone(books: httpx.AsyncClient) -> None:
    assert (await books.get(path("free"), headers=DASHBOARD)).json()["user_id"] == "cleo"


@pytest.mark.parametrize("suffix", ["", "/timeline"])
async def test_the_same_id_of_two_users_asks_which(
    books: httpx.AsyncClient, books_settings: Settings, applied_topics: list[str], suffix: str
) -> None:
    connection = await asyncpg.connect(books_settings.require("postgres"))
    await connection.execute("UPDATE generations SET request_id = 'picture' WHERE request_id = 'failed'")
    await connection.close()
    response = await books.get(path("picture", suffix), headers=DASHBOARD)
    assert_problem(response, 409, "ambiguous")
    assert response.json()["users"] == ["ada", "ben"]
    one = await books.get(path("picture"), params={"user": "ben"}, headers=DASHBOARD)
    assert one.json()["state"] == "failed"


@pytest.mark.usefixtures("applied_topics")
async def test_somebody_else_s_request_is_not_there(books: httpx.AsyncClient) -> None:
    for suffix in ("", "/timeline"):
        assert_problem(await books.get(path("picture", suffix), headers=BEN), 404, "not_found")
        assert_problem(await books.get(path("picture", suffix), params={"user": "ada"}, headers=BEN), 403, "forbidden")
        assert_problem(await books.get(path("picture", suffix)), 401, "unauthorized")
    assert_problem(await books.delete(path("waiting"), headers=BEN), 404, "not_found")


async def test_an_id_that_cannot_be_is_invalid(books: httpx.AsyncClient) -> None:
    for request_id in ("a b", "x" * 129, "a%0A"):
        assert_problem(await books.get(path(request_id), headers=ADA), 422, "invalid")
    assert_problem(await books.get(path("picture"), params={"user": "a/b"}, headers=DASHBOARD), 422, "invalid")


@pytest.mark.usefixtures("applied_topics")
async def test_a_refused_request_is_found_on_kafka(books: httpx.AsyncClient, books_settings: Settings) -> None:
    await publish(books_settings, "ada", event(REQUESTED, "ada", "poor", operation="maya.image", prompt="x"))
    asked = (await books.get(path("poor"), headers=ADA)).json()
    assert asked == {
        "request_id": "poor", "user_id": "ada", "state": "undecided", "operation": "maya.image", "images": [],
    }  # fmt: skip
    await publish(books_settings, "ada", rejected("ada", "poor"))
    for headers in (ADA, DASHBOARD):
        found = (await books.get(path("poor"), headers=headers)).json()
        assert (found["state"], found["reason"]) == ("rejected", "insufficient_credits")
        assert found["message"] == "This needs 1 credit."


@pytest.mark.usefixtures("applied_topics")
async def test_nothing_is_known_of_what_nobody_asked_for(books: httpx.AsyncClient) -> None:
    for suffix in ("", "/timeline"):
        assert_problem(await books.get(path("never", suffix), headers=ADA), 404, "not_found")
        assert_problem(await books.get(path("never", suffix), headers=DASHBOARD), 404, "not_found")
    assert_problem(await books.delete(path("never"), headers=ADA), 404, "not_found")


async def test_a_decision_that_the_hub_remembers_needs_no_search(books_settings: Settings) -> None:
    body = {"type": REJECTED, "request_id": "fast", "user_id": "ada", "operation": "maya.image",
            "reason": "rate_limited", "message": "Too many.", "retry_after_s": 7.5, "limit": 30}  # fmt: skip
    offline = books_settings.model_copy(update={"kafka": AWAY})
    async with caller_of(offline, hub=Hub(fast=body)) as client:
        found = (await client.get(path("fast"), headers=ADA)).json()
        assert (found["state"], found["retry_after_s"], found["limit"]) == ("rejected", 7.5, 30)
        assert_problem(await client.get(path("unknown-to-the-hub"), headers=ADA), 503, "unavailable")


async def test_an_admission_that_the_hub_knows_is_looked_up_again(
    books_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row comes between the first look and the hub's answer."""
    looks: list[str] = []

    async def too_early_once(pool: Pool, user_id: str, request_id: str) -> dict[str, Any] | None:
        looks.append(request_id)
        return None if len(looks) == 1 else await read_generation(pool, user_id, request_id)

    monkeypatch.setattr(generation_reads, "read_generation", too_early_once)
    body = {"type": ADMITTED, "request_id": "waiting", "user_id": "ada"}
    async with caller_of(books_settings.model_copy(update={"kafka": AWAY}), hub=Hub(waiting=body)) as client:
        assert (await client.get(path("waiting"), headers=ADA)).json()["state"] == "queued"
    assert looks == ["waiting", "waiting"]


@pytest.mark.parametrize(("suffix", "places"), [("", SEARCHES_MAX), ("/timeline", TIMELINES_MAX)])
async def test_few_search_at_once_and_others_are_told_when_to_come_again(
    books_settings: Settings, monkeypatch: pytest.MonkeyPatch, suffix: str, places: int
) -> None:
    go_on = asyncio.Event()
    searching_now: list[int] = []

    async def slow_search(*asked: object, **bounds: object) -> tuple[list[Event], bool]:
        searching_now.append(1)
        assert len(searching_now) <= AT_ONCE_MAX
        await go_on.wait()
        searching_now.pop()
        return [], True

    monkeypatch.setattr(searching, "events_of_request", slow_search)
    async with caller_of(books_settings) as client:
        inside = [asyncio.create_task(client.get(path("never", suffix), headers=ADA)) for _ in range(places)]
        assert isinstance(client._transport, httpx.ASGITransport)
        searches = client._transport.app.state.searches  # type: ignore[attr-defined]
        taken = searches._timelines if suffix else searches._decisions
        await eventually(lambda: taken._free == 0, 20, "not all places were taken")
        refused = await client.get(path("never", suffix), headers=ADA)
        assert_problem(refused, 503, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
        go_on.set()
        for one in inside:
            assert_problem(await one, 404, "not_found")
        assert_problem(await client.get(path("never", suffix), headers=ADA), 404, "not_found")


async def test_a_search_that_does_not_come_to_its_end_says_nothing_wrong(
    books_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless_search(*asked: object, **bounds: object) -> tuple[list[Event], bool]:
        await asyncio.Event().wait()
        raise AssertionError

    async def broken_off(*asked: object, **bounds: object) -> tuple[list[Event], bool]:
        return [], False

    monkeypatch.setattr(searching, "SEARCH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(searching, "GRACE_S", 0.1)
    async with caller_of(books_settings) as client:
        for search in (endless_search, broken_off):
            monkeypatch.setattr(searching, "events_of_request", search)
            assert_problem(await client.get(path("never"), headers=ADA), 503, "unavailable")


@pytest.mark.usefixtures("applied_topics")
async def test_a_timeline_joins_events_ledger_and_rows(books: httpx.AsyncClient, books_settings: Settings) -> None:
    asked = event(REQUESTED, "ada", "picture", operation="maya.image", prompt="x")
    await publish(books_settings, "ada", asked, admitted("ada", "picture", 0), completed("ada", "other"))
    response = await books.get(path("picture", "/timeline"), headers=ADA)
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["complete"], found["row"]["state"]) == (True, "completed")
    assert [entry["topic"] for entry in found["events"]] == [REQUESTED, ADMITTED]
    assert all({"partition", "offset", "at", "ms"} <= set(entry) for entry in found["events"])
    assert [(entry["kind"], entry["amount"]) for entry in found["ledger"]] == [("charge", -1)]
    assert [image["image_id"] for image in found["images"]] == ["p-ada-picture-0"]
    times = [moment["ms"] for moment in found["timeline"]]
    assert times == sorted(times)
    by_id_alone = await books.get(path("picture", "/timeline"), headers=DASHBOARD)
    assert by_id_alone.json()["row"] == found["row"]


@pytest.mark.usefixtures("applied_topics")
async def test_a_cancel_is_on_kafka_before_it_is_answered(books: httpx.AsyncClient, books_settings: Settings) -> None:
    response = await books.delete(path("waiting"), params={"user": "ada"}, headers=PRODUCER)
    assert response.status_code == 202, response.text
    assert response.json() == {"request_id": "waiting", "user_id": "ada", "state": "queued"}
    assert (await books.get(response.headers["location"], headers=PRODUCER)).json()["state"] == "queued"
    own = await books.delete(path("waiting"), headers=ADA)
    assert (own.status_code, own.headers["location"]) == (202, "/v1/generations/waiting")
    records = await records_of(books_settings, CANCEL_REQUESTED)
    assert [(record.key, fact_of(record)) for record in records] == [
        (b"ada", {"request_id": "waiting", "user_id": "ada"})
    ] * 2


@pytest.mark.usefixtures("applied_topics")
async def test_what_has_ended_is_not_cancelled(books: httpx.AsyncClient, books_settings: Settings) -> None:
    await publish(books_settings, "ben", rejected("ben", "poor"))
    for headers, request_id, state in ((ADA, "picture", "completed"), (BEN, "failed", "failed"),
                                       (BEN, "poor", "rejected")):  # fmt: skip
        response = await books.delete(path(request_id), headers=headers)
        assert_problem(response, 409, "already_ended")
        assert response.json()["state"] == state
    again = await books.delete(path("cancelled"), headers=BEN)
    assert (again.status_code, again.json()["state"]) == (202, "cancelled")
    assert await records_of(books_settings, CANCEL_REQUESTED) == []


@pytest.mark.usefixtures("applied_topics")
async def test_a_request_that_is_not_decided_yet_is_to_be_cancelled_later(
    books: httpx.AsyncClient, books_settings: Settings
) -> None:
    await publish(books_settings, "ada", event(REQUESTED, "ada", "new", operation="maya.image", prompt="x"))
    response = await books.delete(path("new"), headers=ADA)
    assert_problem(response, 409, "undecided")
    assert int(response.headers["retry-after"]) > 0


async def test_a_dashboard_cancels_nothing(books: httpx.AsyncClient) -> None:
    assert_problem(await books.delete(path("waiting"), params={"user": "ada"}, headers=DASHBOARD), 403, "forbidden")
    assert_problem(await books.delete(path("waiting"), headers=PRODUCER), 422, "invalid")


@pytest.mark.parametrize("address", [AWAY, "192.0.2.1:9092"])
async def test_while_kafka_is_away_a_cancel_is_refused_within_three_seconds(
    books_settings: Settings, address: str
) -> None:
    """Where nobody listens, and where nobody even answers."""
    async with caller_of(books_settings.model_copy(update={"kafka": address})) as client:
        began = time.monotonic()
        response = await client.delete(path("waiting"), headers=ADA)
        took_s = time.monotonic() - began
    assert_problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) > 0
    assert took_s < 3.0


async def test_while_postgres_is_away_it_is_said_so(offline_settings: Settings) -> None:
    async with caller_of(offline_settings) as client:
        for method, where in (("GET", path("r")), ("GET", path("r", "/timeline")), ("DELETE", path("r"))):
            assert_problem(await client.request(method, where, headers=ADA), 503, "unavailable")


async def test_what_a_request_waits_for_is_bounded_whatever_it_is() -> None:
    async def work() -> int:
        await asyncio.Event().wait()
        return 1

    places = Places(1, "a well")
    with pytest.raises(Unavailable, match="no answer within"):
        await in_time(work(), places, 0.05, "a well")
    with pytest.raises(Unavailable, match="no answer within"):
        async with within(0.05, "a lake"):
            await work()
    with places.one(), pytest.raises(Unavailable, match="too many"):
        await in_time(work(), places, 0.05, "a well")
