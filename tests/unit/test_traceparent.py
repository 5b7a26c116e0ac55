"""A request's trace goes on to everything that is said of the request; what is no trace goes nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from models import admission, answers, cancelling, gallery, grants, settlement
from models.accounts import Account
from models.cancelling import CancelRequested
from models.facts import ImagesStored, MissingImage, PredictionUpdated, StoredImage
from models.lifecycle import State
from models.operations import POLICIES
from models.outputs import Header, Output, traceparent_of
from models.requests import read_request
from models.settlement import Facts, Generation
from models.topics import ADMITTED, COMPLETED, CREDITS, FAILED, PREDICTIONS, REJECTED, STORED
from streams.facts import FactPublisher
from tests.unit.records import FakeRecord, request_value

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RECORD = FakeRecord(b"", headers=[("traceparent", TRACE.encode())])
IMAGE = StoredImage(0, "images/0.jpg", "thumbnails/0.webp", 8, 8, "image/jpeg", 99, "ab")


def traces(outputs: Sequence[Output]) -> list[tuple[str, str | None]]:
    """(topic, traceparent) of each event."""
    found = [(topic, dict(headers).get("traceparent")) for topic, _, _, headers in outputs]
    return [(topic, None if trace is None else trace.decode()) for topic, trace in found]


def generation(state: State, operation: str = "maya.image", cost: int = 1, trace: str | None = TRACE) -> Generation:
    prediction_id = None if state is State.QUEUED else "p1"
    return Generation("u1", "r1", operation, state, cost, 0, prediction_id, "a lake", 1_000_000, traceparent=trace)


def facts_about(row: Generation) -> Facts:
    return Facts({"u1": Account("u1", 9, 3)}, {("u1", "r1"): row})


def after_a_crash(decisions: Sequence[Any], kind: Any) -> list[Any]:
    """The decisions as they come back from the progress row."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(decisions), type=list[kind])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"01" + TRACE.encode()[2:],
        TRACE.upper().encode(),
        TRACE.encode() + b"-00",
        TRACE.encode() + b"\n",
        TRACE.encode()[:-1],
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333١-01".encode(),
        b"\xff" * 55,
        b"0" * 4096,
        None,
    ],
)
def test_what_has_not_the_form_of_a_trace_is_dropped(value: bytes | None) -> None:
    assert traceparent_of(FakeRecord(b"", headers=[("traceparent", value)])) is None  # type: ignore[list-item]


def test_a_trace_is_found_between_other_headers() -> None:
    assert traceparent_of(FakeRecord(b"")) is None
    assert traceparent_of(FakeRecord(b"", headers=[("a", b"b"), *RECORD.headers])) == TRACE


@pytest.mark.parametrize(("balance", "expected"), [(5, [ADMITTED, CREDITS]), (0, [REJECTED])])
def test_a_request_s_trace_is_on_its_answer_and_its_charge(balance: int, expected: list[str]) -> None:
    record = FakeRecord(request_value(), headers=RECORD.headers)
    inputs = [read_request(record.key, record.value)]
    facts = admission.Facts(accounts={"u1": Account("u1", balance, 7)}, known={})
    decisions, _, _ = admission.decide([record], inputs, facts, admission.PartitionState(), POLICIES, 0)
    assert traces(answers.render([record], inputs, decisions)) == [(topic, TRACE) for topic in expected]


def test_a_grant_s_trace_is_on_the_new_balance() -> None:
    grant = grants.Grant("g1", "u1", 5, "bonus")
    decisions, _ = grants.decide([grant], grants.Facts({"u1": Account("u1")}, {}))
    assert traces(grants.render([RECORD], [grant], decisions)) == [(CREDITS, TRACE)]


def test_the_row_s_trace_is_on_a_failure_and_its_refund() -> None:
    fact = PredictionUpdated("r1", "u1", "failed", "webhook", "p1")
    decisions, _ = settlement.decide([fact], facts_about(generation(State.RUNNING)))
    decisions = after_a_crash(decisions, settlement.Decision)
    assert traces(settlement.render([FakeRecord(b"")], [fact], decisions)) == [(FAILED, TRACE), (CREDITS, TRACE)]


def test_the_row_s_trace_is_on_a_trained_model() -> None:
    fact = PredictionUpdated("r1", "u1", "succeeded", "webhook", "p1", {"output": {"version": "darkroom/portraits:v1"}})
    decisions, _ = settlement.decide([fact], facts_about(generation(State.RUNNING, "training.model")))
    decisions = after_a_crash(decisions, settlement.Decision)
    assert traces(settlement.render([FakeRecord(b"")], [fact], decisions)) == [(COMPLETED, TRACE)]


def test_the_row_s_trace_is_on_a_completion_and_the_refunds_of_what_is_missing() -> None:
    fact = ImagesStored("r1", "u1", "p1", [IMAGE], [MissingImage(1, "expired"), MissingImage(2, "expired")])
    row = generation(State.STORING, "studio.images", 4)
    decisions, _ = gallery.decide([fact], facts_about(row), "http://x/")
    decisions = after_a_crash(decisions, gallery.Decision)
    expected = [(COMPLETED, TRACE), (CREDITS, TRACE), (CREDITS, TRACE)]
    assert traces(gallery.render([FakeRecord(b"")], [fact], decisions)) == expected


def test_the_row_s_trace_is_on_the_loss_of_every_output() -> None:
    fact = ImagesStored("r1", "u1", "p1", [], [MissingImage(0, "expired")])
    decisions, _ = gallery.decide([fact], facts_about(generation(State.STORING)), "http://x/")
    decisions = after_a_crash(decisions, gallery.Decision)
    assert traces(gallery.render([FakeRecord(b"")], [fact], decisions)) == [(FAILED, TRACE), (CREDITS, TRACE)]


def test_the_row_s_trace_and_not_the_wish_s_is_on_a_cancelled_request() -> None:
    wish = CancelRequested("r1", "u1")
    other = FakeRecord(b"", headers=[("traceparent", TRACE.replace("-01", "-00").encode())])
    decisions, _ = cancelling.decide([wish], facts_about(generation(State.QUEUED)))
    decisions = after_a_crash(decisions, cancelling.Decision)
    assert traces(cancelling.render([other], [wish], decisions)) == [(FAILED, TRACE), (CREDITS, TRACE)]


def test_a_request_without_a_trace_gets_none() -> None:
    fact = PredictionUpdated("r1", "u1", "failed", "webhook", "p1")
    decisions, _ = settlement.decide([fact], facts_about(generation(State.RUNNING, trace=None)))
    assert traces(settlement.render([RECORD], [fact], decisions)) == [(FAILED, None), (CREDITS, None)]


def test_decisions_that_were_stored_before_there_were_traces_are_read() -> None:
    """A worker of the version before may have left them behind in the progress row."""
    old = msgspec.msgpack.encode([[1, "maya.image", "expired", None], [4, "training.model", "p1", "v1", "TOK", 9, 5]])
    ended, trained = msgspec.msgpack.decode(old, type=list[settlement.Decision])
    assert (ended.traceparent, trained.traceparent) == (None, None)  # type: ignore[union-attr]
    old = msgspec.msgpack.encode([[4, "maya.image", 1, 1_000_000, [], "http://x/"]])
    (completed,) = msgspec.msgpack.decode(old, type=list[gallery.Decision])
    assert completed.traceparent is None  # type: ignore[union-attr]


class _Kept:
    def __init__(self) -> None:
        self.outputs: list[Output] = []

    async def send(self, topic: str, key: bytes | None, value: bytes, headers: list[Header]) -> tuple[int, int]:
        self.outputs.append((topic, key, value, headers))
        return 0, 0


def test_a_service_s_facts_carry_the_trace_that_it_gives() -> None:
    kept = _Kept()
    publisher = FactPublisher(kept, "keeper")
    asyncio.run(publisher.prediction(PredictionUpdated("r1", "u1", "starting", "dispatcher", "p1"), TRACE))
    asyncio.run(publisher.stored(ImagesStored("r1", "u1", "p1", [IMAGE]), TRACE))
    asyncio.run(publisher.prediction(PredictionUpdated("r1", "u1", "starting", "webhook", "p1")))
    assert traces(kept.outputs) == [(PREDICTIONS, TRACE), (STORED, TRACE), (PREDICTIONS, None)]
