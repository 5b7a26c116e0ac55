"""The parts without HTTP."""

from __future__ import annotations

import base64

import pytest

from devstack.emulator.faults import FAULTS, Fault, Mark, Stage, checked_rates, faults_for, marks_in_prompt
from devstack.emulator.lifecycle import MOVES, TERMINAL, Happening, Status, latency_of, plan_run
from devstack.emulator.options import EmulatorOptions
from devstack.emulator.store import PredictionStore
from devstack.emulator.throttle import Throttle
from models.errors import WrongUse


def test_every_fault_is_described_and_has_a_stage() -> None:
    assert set(FAULTS) == set(Fault)
    assert {stage for stage, _ in FAULTS.values()} == set(Stage)


def test_marks_say_how_often_and_where() -> None:
    assert marks_in_prompt("a [[fault:server_error*3]] b [[fault:corrupt_image*2@1]][[fault:failed]]") == (
        Mark(Fault.SERVER_ERROR, 3),
        Mark(Fault.CORRUPT_IMAGE, 2, 1),
        Mark(Fault.FAILED),
    )
    assert marks_in_prompt("no [fault:failed] here") == ()


@pytest.mark.parametrize("prompt", ["[[fault:nope]]", "[[fault:]]", "[[fault:failed*]]", "[[fault:failed@x]]"])
def test_a_mistyped_mark_is_an_error(prompt: str) -> None:
    with pytest.raises(WrongUse):
        marks_in_prompt(prompt)


def test_a_create_mark_strikes_the_first_attempt_only_and_a_run_mark_always() -> None:
    marks = marks_in_prompt("[[fault:lost_answer]] [[fault:failed]]")
    struck = [faults_for(Stage.CREATE, marks, {}, 1, "a", attempt) for attempt in (1, 2, 3)]
    assert struck == [{Fault.LOST_ANSWER}, set(), set()]
    assert faults_for(Stage.RUN, marks, {}, 1, "a", 5) == {Fault.FAILED}


def test_rates_strike_about_as_often_as_they_say_and_independently() -> None:
    rates = checked_rates({"failed": 0.2, "half_set": 0.5, "aborted": 0})
    struck = [faults_for(Stage.RUN, (), rates, 7, f"request {number}") for number in range(4000)]
    both = sum(len(faults) == 2 for faults in struck) / len(struck)
    failed = sum(Fault.FAILED in faults for faults in struck) / len(struck)
    assert failed == pytest.approx(0.2, abs=0.03)
    assert both == pytest.approx(0.1, abs=0.03)


def test_a_run_that_is_over_never_moves_again() -> None:
    assert not [pair for pair in MOVES if pair[0] in TERMINAL]
    reached: set[Status] = {Status.STARTING}
    before: set[Status] = set()
    while reached != before:
        before = set(reached)
        reached |= {after for (status, _), after in MOVES.items() if status in before}
    assert reached == set(Status)


def test_a_plan_follows_its_faults() -> None:
    assert plan_run(4, 2.0, frozenset()).outputs == 4
    assert plan_run(4, 2.0, frozenset({Fault.HALF_SET})).outputs == 2
    assert plan_run(4, 2.0, frozenset({Fault.FAILED, Fault.HALF_SET})).outputs == 0
    assert plan_run(1, 2.0, frozenset({Fault.STUCK, Fault.FAILED})).ending is None
    assert plan_run(1, 2.0, frozenset({Fault.ABORTED})).ending is Happening.ABORTED
    plan = plan_run(1, 2.0, frozenset())
    assert plan.starting_s + plan.processing_s == pytest.approx(2.0)


def test_latencies_stay_in_their_range_and_spread_over_it() -> None:
    found = [latency_of(3, f"request {number}", 1, 1.0, 2.0) for number in range(500)]
    assert min(found) >= 1.0
    assert max(found) <= 2.0
    assert max(found) - min(found) > 0.9
    assert latency_of(3, "request 1", 2, 1.0, 2.0) != found[1]


def test_the_throttle_lets_a_minute_s_worth_through_and_names_the_wait() -> None:
    throttle = Throttle(6, now=100.0)
    assert [throttle.take(100.0) for _ in range(6)] == [0.0] * 6
    assert throttle.take(100.0) == pytest.approx(10.0)
    assert throttle.take(109.0) == pytest.approx(1.0)
    assert throttle.take(110.01) == 0.0
    assert Throttle(0, now=0.0).take(0.0) == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"latency_min_s": 3.0, "latency_max_s": 2.0},
        {"latency_min_s": -1.0},
        {"long_side_px": 10_000},
        {"fault_rates": {"failed": 1.5}},
        {"fault_rates": {"nope": 0.5}},
        {"webhook_secret": "secret"},
        {"webhook_secret": "whsec_" + base64.b64encode(b"short").decode()},
        {"predictions_max": 0},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(WrongUse):
        EmulatorOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("cursor", ["x", "cD14", "%%%", base64.b64encode(b"q=1").decode(), "é"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(WrongUse):
        PredictionStore(10, 60.0).page(cursor)
