"""`darkroom trace`: everything that is known of one request, in order of time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from cli.main import build_app
from models.topics import ADMITTED, COMPLETED, CREDITS, PREDICTIONS, REQUESTED
from streams.settings import Settings, variable_of
from tests.cli.books import write_clean_books
from tests.cli.events import admitted, completed, event, publish, rejected

pytestmark = pytest.mark.usefixtures("applied_topics")


@pytest.fixture
def trace(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name in ("kafka", "postgres", "redis", "topic_prefix", "home", "partitions"):
        monkeypatch.setenv(variable_of(name), str(getattr(settings, name)))
    return lambda *arguments: CliRunner().invoke(build_app(), ["trace", *arguments])


@pytest.fixture
def books(settings: Settings) -> None:
    async def write() -> None:
        connection = await asyncpg.connect(settings.require("postgres"))
        await write_clean_books(connection)
        await connection.close()

    asyncio.run(write())


def publish_path(settings: Settings) -> None:
    """The events of ada's request `picture`, among others'."""
    cause = {"kind": "charge", "reference_id": "ada/picture", "amount": -1}
    provider = {"created_at": "2026-01-31T08:15:30.000Z", "started_at": "2026-01-31T08:15:31Z", "completed_at": None}
    path = (
        event(REQUESTED, "ada", "picture", operation="maya.image", prompt="x"),
        admitted("ada", "picture", 0),
        event(CREDITS, "ada", "-", balance=49, version=2, unlimited=False, cause=cause),
        event(
            PREDICTIONS, "ada", "picture", status="starting", source="webhook", prediction_id="p1", prediction=provider
        ),
        completed("ada", "picture"),
    )
    asyncio.run(publish(settings, "ada", rejected("ada", "picture-2"), *path, completed("ada", "other")))


@pytest.mark.usefixtures("books")
def test_a_timeline_joins_events_ledger_and_rows(settings: Settings, trace: Callable[..., Result]) -> None:
    publish_path(settings)
    done = trace("picture", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["complete"] is True
    topics = [found["topic"] for found in document["events"]]
    assert topics == [REQUESTED, ADMITTED, CREDITS, PREDICTIONS, COMPLETED]
    assert [found["ce_id"] for found in document["events"]][1] == f"ada/picture/{ADMITTED}"
    assert {found["partition"] for found in document["events"]} == {document["events"][0]["partition"]}
    assert [(entry["kind"], entry["amount"]) for entry in document["ledger"]] == [("charge", -1)]
    assert document["row"]["state"] == "completed"
    assert [image["image_id"] for image in document["images"]] == ["p-ada-picture-0"]
    times = [moment["ms"] for moment in document["timeline"]]
    assert times == sorted(times)
    assert times[0] == 0
    said = {(moment["kind"], moment["says"]) for moment in document["timeline"]}
    assert {("provider", "created"), ("provider", "started"), ("row", "finished")} <= said


@pytest.mark.usefixtures("books")
def test_a_timeline_for_a_person_names_topic_partition_and_offset(
    settings: Settings, trace: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    publish_path(settings)
    done = trace("picture")
    assert done.exit_code == 0, done.output
    assert "picture of ada: maya.image, completed" in done.stdout
    assert f"{ADMITTED} " in done.stdout
    assert "charge -1" in done.stdout


def test_a_request_that_was_never_admitted_is_found_in_any_partition(
    settings: Settings, trace: Callable[..., Result]
) -> None:
    asyncio.run(publish(settings, "ben", rejected("ben", "r9")))
    document = json.loads(trace("r9", "--json").stdout)
    assert document["row"] is None
    assert [found["body"]["user_id"] for found in document["events"]] == ["ben"]


def test_the_same_id_of_two_users_asks_which(settings: Settings, trace: Callable[..., Result]) -> None:
    asyncio.run(publish(settings, "ben", rejected("ben", "r9")))
    asyncio.run(publish(settings, "ada", rejected("ada", "r9")))
    done = trace("r9")
    assert type(done.exception).__name__ == "Ambiguous"
    assert "ada, ben" in str(done.exception)
    document = json.loads(trace("r9", "--user", "ada", "--json").stdout)
    assert [found["body"]["user_id"] for found in document["events"]] == ["ada"]


def test_an_unknown_request_is_said_to_be_unknown(trace: Callable[..., Result]) -> None:
    done = trace("nobody-asked")
    assert type(done.exception).__name__ == "UnknownRequest"
    assert "no request nobody-asked is known" in str(done.exception)
