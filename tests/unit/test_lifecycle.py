"""The lifecycle table keeps its own rules, the services keep to it, and its document is the table's."""

from __future__ import annotations

import re

import pytest

from adapters.queries import load_queries
from cli.documents import FOLDER
from models.lifecycle import ENDED, TRANSITIONS, UNFINISHED, Effect, Event, State
from models.lifecycle_document import EFFECTS, EVENTS, STATES, document
from models.settlement import MESSAGES


def test_the_committed_document_is_the_table_s() -> None:
    assert (FOLDER / "lifecycle.md").read_text(encoding="utf-8") == document(), "run `python -m cli.documents`"


def test_everything_in_the_document_has_its_meaning() -> None:
    assert (set(STATES), set(EVENTS), set(EFFECTS)) == (set(State), set(Event), set(Effect))


def test_every_state_can_be_reached_and_every_unfinished_one_left_for_an_end() -> None:
    reached = {State.ADMITTED}
    while more := {led.state for (state, _), led in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == set(State)
    for state in UNFINISHED:
        assert any(led.state in ENDED for (start, _), led in TRANSITIONS.items() if start is state)


def test_a_request_that_is_not_delivered_is_given_back_with_a_reason_that_has_words() -> None:
    for led in TRANSITIONS.values():
        assert (led.state in (State.FAILED, State.CANCELLED)) == led.refunds
        assert led.refunds == bool(led.reason)
        assert not led.reason or led.reason in MESSAGES


def test_a_cancel_gives_nothing_back_while_a_run_may_exist() -> None:
    led = {state: TRANSITIONS.get((state, Event.CANCEL_REQUESTED)) for state in State}
    assert {state for state, found in led.items() if found and found.refunds} == {State.ADMITTED, State.QUEUED}
    stopping = {state for state, found in led.items() if found and Effect.STOP_RUN in found.effects}
    assert stopping == {State.SUBMITTING, State.RUNNING}


@pytest.mark.parametrize(
    ("room", "query", "event"),
    [("generations", "queue", Event.QUEUED), ("work", "claim_queued", Event.SUBMITTED),
     ("work", "hand_back", Event.HANDED_BACK)],
)  # fmt: skip
def test_states_that_are_written_in_sql_follow_the_table(room: str, query: str, event: Event) -> None:
    text = load_queries(room)[query]
    (written,) = re.findall(r"SET state = '(\w+)'", text)
    found = set(re.findall(r"\bstate = '(\w+)'", text)) - {written}
    assert {state for state, known in TRANSITIONS if known is event} == found
    assert {led.state for (_, known), led in TRANSITIONS.items() if known is event} == {written}
