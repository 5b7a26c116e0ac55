"""Settling and completing: every fact in every order leaves the books right."""

from __future__ import annotations

import random

import msgspec
import pytest

from models import gallery, settlement
from models.accounts import Account
from models.facts import ImagesStored, MissingImage, PredictionUpdated, StoredImage, shortened_prediction
from models.gallery import Completed
from models.lifecycle import ENDED, TRANSITIONS, Event, State, event_of_status, transition
from models.settlement import Dead, Ended, Facts, Generation, Moved, Nothing
from tests.unit.records import FakeRecord

URL = "http://x/"


def generation(state: State = State.RUNNING, *, operation: str = "maya.image", cost: int = 1) -> Generation:
    return Generation("u1", "r1", operation, state, cost, 0, "p1", "a harbour", 1_000_000)


def facts_about(row: Generation, balance: int = 9) -> Facts:
    return Facts({"u1": Account("u1", balance, 3)}, {("u1", "r1"): row})


def prediction(status: str, prediction_id: str | None = "p1", output: object = None) -> PredictionUpdated:
    return PredictionUpdated("r1", "u1", status, "webhook", prediction_id, {"output": output})


def stored(indices: tuple[int, ...], missing: tuple[int, ...] = (), prediction_id: str = "p1") -> ImagesStored:
    images = [StoredImage(i, f"images/{i}.jpg", f"thumbnails/{i}.webp", 8, 8, "image/jpeg", 99, "ab") for i in indices]
    return ImagesStored("r1", "u1", prediction_id, images, [MissingImage(i, "expired") for i in missing])


def test_a_success_keeps_the_outputs_for_the_keeper() -> None:
    row = generation()
    decisions, effects = settlement.decide([prediction("succeeded", output=["http://a/1"])], facts_about(row))
    assert decisions == [Moved()]
    assert (row.state, row.output_urls, effects.entries) == (State.STORING, ["http://a/1"], [])


def test_a_success_without_outputs_is_a_failure() -> None:
    row = generation()
    decisions, _ = settlement.decide([prediction("succeeded", output=[])], facts_about(row))
    assert isinstance(decisions[0], Ended)
    assert row.state is State.FAILED


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("failed", State.FAILED, "provider_failed"),
        ("aborted", State.FAILED, "provider_failed"),
        ("rejected", State.FAILED, "provider_rejected"),
        ("expired", State.FAILED, "expired"),
        ("canceled", State.CANCELLED, "cancelled"),
    ],
)
def test_an_ending_without_pictures_refunds_once(status: str, state: State, reason: str) -> None:
    row = generation(operation="studio.images", cost=4)
    facts = facts_about(row)
    decisions, effects = settlement.decide([prediction(status)] * 3, facts)
    assert [type(decision) for decision in decisions] == [Ended, Nothing, Nothing]
    assert (row.state, row.reason, row.refunded) == (state, reason, 4)
    (entry,) = effects.entries
    assert (entry.amount, entry.kind, entry.reference_id, entry.balance_after) == (4, "refund", "u1/r1", 13)


def test_an_uncharged_request_has_nothing_to_give_back() -> None:
    row = generation(cost=0)
    record = FakeRecord(b"")
    decisions, effects = settlement.decide([prediction("failed")], facts_about(row))
    assert effects.entries == []
    (output,) = settlement.render([record], [prediction("failed")], decisions)
    assert msgspec.json.decode(output[2])["refunded"] == 0


def test_a_status_that_is_new_to_us_changes_nothing() -> None:
    row = generation()
    decisions, effects = settlement.decide([prediction("meditating")], facts_about(row))
    assert decisions == [Nothing()]
    assert effects.generations == {}


def test_a_fact_about_another_prediction_of_the_request_changes_nothing() -> None:
    row = generation()
    assert settlement.decide([prediction("failed", "p2")], facts_about(row))[0] == [Nothing()]
    assert row.state is State.RUNNING


def test_a_prediction_that_announces_itself_is_adopted() -> None:
    row = generation(State.SUBMITTING)
    row.prediction_id = None
    settlement.decide([prediction("starting", "p7")], facts_about(row))
    assert (row.state, row.prediction_id) == (State.RUNNING, "p7")


@pytest.mark.parametrize(
    ("state", "known", "announced", "is_stray"),
    [
        (State.CANCELLED, None, "p2", True),
        (State.FAILED, None, "p2", True),
        (State.RUNNING, "p1", "p2", True),
        (State.COMPLETED, "p1", "p2", True),
        (State.COMPLETED, "p1", "p1", False),
        (State.SUBMITTING, None, "p2", False),
        (State.QUEUED, None, "p2", False),
        (State.CANCELLED, None, None, False),
    ],
)
def test_a_run_that_no_request_waits_for_is_to_be_stopped(
    state: State, known: str | None, announced: str | None, is_stray: bool
) -> None:
    row = generation(state)
    row.prediction_id = known
    _, effects = settlement.decide([prediction("starting", announced)] * 2, facts_about(row))
    assert list(effects.strays) == (["p2"] if is_stray else [])
    assert row.prediction_id == (known if is_stray or announced is None else announced)


def test_a_stray_run_that_is_over_costs_no_more() -> None:
    row = generation(State.CANCELLED)
    _, effects = settlement.decide([prediction("succeeded", "p2", ["http://a"])], facts_about(row))
    assert effects.strays == {}


def test_a_fact_about_nobody_goes_to_the_dead_letters() -> None:
    decisions, _ = settlement.decide([prediction("failed")], Facts({}, {}))
    assert isinstance(decisions[0], Dead)
    assert decisions[0].reason == "unknown_request"


def test_a_stored_set_completes_with_a_row_for_each_picture() -> None:
    row = generation(State.STORING, operation="studio.images", cost=4)
    fact = stored((0, 1, 2, 3))
    decisions, effects = gallery.decide([fact, fact], facts_about(row), URL)
    assert decisions == [Completed("studio.images", 4, 1_000_000, [], URL), Nothing()]
    assert [entry.image_id for entry in effects.rows] == ["p1-0", "p1-1", "p1-2", "p1-3"]
    assert {entry.source for entry in effects.rows} == {"studio"}


def test_a_short_set_gives_back_each_missing_picture() -> None:
    row = generation(State.STORING, operation="studio.images", cost=4)
    fact = stored((0, 2), missing=(1, 3))
    record = FakeRecord(b"", timestamp=1_500_000)
    decisions, effects = gallery.decide([fact], facts_about(row), URL)
    assert [(entry.reference_id, entry.amount) for entry in effects.settlement.entries] == [
        ("u1/r1/1", 1),
        ("u1/r1/3", 1),
    ]
    completed, first, second = gallery.render([record], [fact], decisions)
    event = msgspec.json.decode(completed[2])
    assert (event["refunded"], event["cost"], len(event["images"])) == (2, 4, 2)
    assert event["images"][0]["url"] == "http://x/images/0.jpg"
    assert (event["requested_at"], event["completed_at"]) == ("1970-01-01T00:16:40.000Z", "1970-01-01T00:25:00.000Z")
    assert [msgspec.json.decode(output[2])["balance"] for output in (first, second)] == [10, 11]


def test_a_video_completes_with_a_row_of_its_own_and_no_thumbnail() -> None:
    row = generation(State.STORING, operation="video.animation", cost=3)
    video = StoredImage(0, "videos/0.mp4", "", 640, 360, "video/mp4", 99, "ab")
    fact = ImagesStored("r1", "u1", "p1", [video])
    decisions, effects = gallery.decide([fact], facts_about(row), URL)
    assert [(one.image_id, one.source, one.is_video) for one in effects.rows] == [("p1-0", "video", True)]
    (completed,) = gallery.render([FakeRecord(b"")], [fact], decisions)
    (shown,) = msgspec.json.decode(completed[2])["images"]
    assert (shown["image_id"], shown["content_type"], shown["url"]) == ("p1-0", "video/mp4", "http://x/videos/0.mp4")
    assert (shown["thumbnail_url"], shown["width"], shown["height"]) == ("", 640, 360)


def test_a_set_of_which_nothing_is_left_fails_and_is_refunded() -> None:
    row = generation(State.STORING)
    decisions, _ = gallery.decide([stored((), missing=(0,))], facts_about(row), URL)
    assert isinstance(decisions[0], Ended)
    assert (row.state, row.reason, row.refunded) == (State.FAILED, "outputs_lost", 1)


def test_no_end_state_leads_anywhere() -> None:
    assert [key for key in TRANSITIONS if key[0] in ENDED] == []


def test_money_moves_only_into_end_states() -> None:
    assert [key for key, led in TRANSITIONS.items() if led.refunds and led.state not in ENDED] == []


@pytest.mark.parametrize("seed", range(200))
def test_any_order_of_facts_ends_a_request_once_and_refunds_it_at_most_once(seed: int) -> None:
    chance = random.Random(seed)
    row = generation(chance.choice([State.QUEUED, State.SUBMITTING, State.RUNNING]))
    facts = facts_about(row)
    ended = refunded = 0
    for _ in range(30):
        if chance.random() < 0.2:
            inputs = [stored((0,)) if chance.random() < 0.5 else stored((), (0,))]
            decisions, gallery_effects = gallery.decide(inputs, facts, URL)
            entries = gallery_effects.settlement.entries
        else:
            status = chance.choice(["starting", "processing", "succeeded", "failed", "canceled", "aborted", "expired"])
            decisions, effects = settlement.decide([prediction(status, output="http://a")], facts)
            entries = effects.entries
        ended += isinstance(decisions[0], Ended | Completed)
        refunded += sum(entry.amount for entry in entries)
    assert ended <= 1, f"seed {seed}"
    assert refunded == row.refunded <= row.cost, f"seed {seed}"
    assert (ended == 1) == (row.state in ENDED), f"seed {seed}"


def test_every_status_of_the_provider_is_known() -> None:
    statuses = ("starting", "processing", "succeeded", "failed", "canceled", "aborted")
    assert all(event_of_status(status) is not None for status in statuses)
    assert transition(State.RUNNING, Event.STARTED) is None


def test_a_prediction_too_big_for_an_event_is_shortened() -> None:
    body = {"id": "p1", "status": "failed", "error": "e" * 100_000, "output": ["u" * 60_000], "logs": "l" * 100_000}
    assert len(msgspec.json.encode(shortened_prediction(body))) < 48 * 1024
