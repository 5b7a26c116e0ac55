"""Trainings: what a success must say, whose model counts, and what the completion looks like."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from models import settlement
from models.accounts import Account
from models.facts import PredictionUpdated, shortened_prediction
from models.lifecycle import State
from models.requests import Options
from models.settlement import Ended, Facts, Generation, Nothing
from models.training import Trained, trigger_word_of, version_trained
from tests.unit.records import FakeRecord

VERSION = "darkroom/portraits:" + "a" * 64


def training(request_id: str = "t1", admitted_at_ms: int = 1_000_000, **options: Any) -> Generation:
    asked = Options(images=("http://x/1.jpg",) * 5, **options)
    return Generation(
        "u1", request_id, "training.model", State.RUNNING, 25, 0, f"p-{request_id}", "me", admitted_at_ms, asked
    )


def facts_about(*rows: Generation) -> Facts:
    return Facts({"u1": Account("u1", 10, 3)}, {("u1", row.request_id): row for row in rows})


def succeeded(request_id: str = "t1", output: object = None) -> PredictionUpdated:
    body = {"output": {"version": VERSION, "weights": None} if output is None else output}
    return PredictionUpdated(request_id, "u1", "succeeded", "webhook", f"p-{request_id}", body)


def test_a_training_that_succeeds_completes_with_its_model_and_nothing_to_store() -> None:
    row, record = training(trigger_word="MARA"), FakeRecord(b"", timestamp=1_900_000)
    decisions, effects = settlement.decide([succeeded(), succeeded()], facts_about(row))
    assert decisions == [Trained("training.model", "p-t1", VERSION, "MARA", 25, 1_000_000), Nothing()]
    assert (row.state, row.output_urls, effects.entries) == (State.COMPLETED, None, [])
    model = effects.models["u1"]
    assert (model.version, model.trigger_word, model.request_id) == (VERSION, "MARA", "t1")
    (output,) = settlement.render([record] * 2, [succeeded()] * 2, decisions)
    topic, key, value, headers = output
    assert (topic, key, dict(headers)["ce_id"]) == ("generations.completed.v1", b"u1", b"u1/t1/completed")
    assert msgspec.json.decode(value) == {
        "request_id": "t1",
        "user_id": "u1",
        "operation": "training.model",
        "prediction_id": "p-t1",
        "images": [],
        "model": {"version": VERSION, "trigger_word": "MARA"},
        "cost": 25,
        "refunded": 0,
        "requested_at": "1970-01-01T00:16:40.000Z",
        "completed_at": "1970-01-01T00:31:40.000Z",
    }


@pytest.mark.parametrize("output", [[], {}, {"version": 7}, {"version": "a b"}, {"version": ""}, "http://x/model.tar"])
def test_a_training_without_a_usable_version_fails_and_is_refunded(output: object) -> None:
    row = training()
    decisions, effects = settlement.decide([succeeded(output=output)], facts_about(row))
    assert isinstance(decisions[0], Ended)
    assert (row.state, row.reason, row.refunded, effects.models) == (State.FAILED, "provider_failed", 25, {})
    (event, _) = settlement.render([FakeRecord(b"")], [succeeded(output=output)], decisions)
    assert msgspec.json.decode(event[2] or b"")["message"] == "The model could not be made."


def test_a_training_s_report_that_is_too_big_for_an_event_keeps_its_version() -> None:
    body = {"id": "p1", "status": "succeeded", "output": {"version": VERSION, "weights": "w" * 100_000}}
    assert version_trained(shortened_prediction(body)) == VERSION


def test_of_two_trainings_in_a_batch_the_later_admitted_counts() -> None:
    older, newer = training("t1", 1_000), training("t2", 2_000)
    for order in (("t1", "t2"), ("t2", "t1")):
        older.state = newer.state = State.RUNNING
        _, effects = settlement.decide([succeeded(name) for name in order], facts_about(older, newer))
        assert effects.models["u1"].request_id == "t2"


def test_the_decision_survives_being_packed() -> None:
    decided = Trained("training.model", "p", VERSION, "TOK", 25, 1)
    packed = msgspec.msgpack.encode([decided])
    assert msgspec.msgpack.decode(packed, type=list[settlement.Decision]) == [decided]


def test_a_word_that_nobody_chose_is_the_training_s_own() -> None:
    words = {trigger_word_of(user, request, Options()) for user in ("u1", "u2") for request in ("a", "b")}
    assert len(words) == 4
    assert all(word.startswith("TOK") and len(word) == 13 for word in words)
    assert trigger_word_of("u1", "a", Options()) == trigger_word_of("u1", "a", Options())
    assert trigger_word_of("u1", "a", Options(trigger_word="MARA")) == "MARA"


@pytest.mark.parametrize("version", [VERSION, "b" * 64])
def test_a_version_is_taken_with_or_without_its_model(version: str) -> None:
    assert version_trained({"output": {"version": version}}) == version
