"""Cancelling, purely: what a wish means in each state, and that no mixture with other facts pays twice."""

from __future__ import annotations

import random

import msgspec
import pytest

from models import cancelling, settlement
from models.accounts import Account
from models.cancelling import CancelRequested, Stopping, read_cancel
from models.facts import PredictionUpdated
from models.lifecycle import ENDED, UNFINISHED, State
from models.requests import Unreadable
from models.settlement import Dead, Ended, Facts, Generation, Nothing
from tests.unit.records import FakeRecord

WISH = CancelRequested("r1", "u1")


def facts_about(state: State, prediction_id: str | None = None) -> Facts:
    row = Generation("u1", "r1", "studio.images", state, 4, 0, prediction_id, "a harbour", 1_000_000)
    return Facts({"u1": Account("u1", 9, 3)}, {("u1", "r1"): row})


@pytest.mark.parametrize("state", [State.ADMITTED, State.QUEUED])
def test_before_a_run_can_exist_the_request_ends_at_once(state: State) -> None:
    facts = facts_about(state)
    decisions, effects = cancelling.decide([WISH, WISH], facts)
    assert [type(decision) for decision in decisions] == [Ended, Nothing]
    row = facts.generations["u1", "r1"]
    assert (row.state, row.reason, row.refunded) == (State.CANCELLED, "cancelled", 4)
    (entry,) = effects.settlement.entries
    assert (entry.amount, entry.kind, entry.reference_id) == (4, "refund", "u1/r1")
    failed, changed = cancelling.render([FakeRecord(b"")] * 2, [WISH] * 2, decisions)
    assert failed[0] == "generations.failed.v1"
    assert dict(failed[3])["ce_id"] == b"u1/r1/failed"
    assert dict(failed[3])["ce_source"] == b"/darkroom/cancel"
    assert msgspec.json.decode(failed[2] or b"") == {
        "request_id": "r1",
        "user_id": "u1",
        "operation": "studio.images",
        "reason": "cancelled",
        "message": "The request was cancelled.",
        "refunded": 4,
    }
    assert msgspec.json.decode(changed[2] or b"")["balance"] == 13


@pytest.mark.parametrize("state", [State.SUBMITTING, State.RUNNING])
def test_while_a_run_may_exist_nothing_is_given_back_yet(state: State) -> None:
    facts = facts_about(state)
    decisions, effects = cancelling.decide([WISH], facts)
    assert (decisions, effects.stopping) == ([Stopping()], {("u1", "r1")})
    assert (facts.generations["u1", "r1"].state, effects.settlement.entries) == (state, [])
    assert cancelling.render([FakeRecord(b"")], [WISH], decisions) == []


@pytest.mark.parametrize("state", [State.STORING, *ENDED])
def test_after_the_run_the_wish_comes_too_late(state: State) -> None:
    decisions, effects = cancelling.decide([WISH], facts_about(state))
    assert decisions == [Nothing()]
    assert (effects.stopping, effects.settlement.generations) == (set(), {})


def test_every_state_has_an_answer() -> None:
    for state in State:
        (decision,), _ = cancelling.decide([WISH], facts_about(state))
        assert not isinstance(decision, Dead)


def test_a_wish_about_nobody_s_request_goes_to_the_dead_letters() -> None:
    decisions, _ = cancelling.decide([WISH], Facts({}, {}))
    (letter,) = cancelling.render([FakeRecord(b"{}")], [WISH], decisions)
    assert (letter[0], dict(letter[3])["dl_reason"]) == ("dead-letters.v1", b"unknown_request")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"u1", None, "empty"),
        (b"u1", b"{", "bad_json"),
        (b"u1", b'{"request_id": "r1"}', "bad_cancel"),
        (b"u1", b'{"request_id": "a b", "user_id": "u1"}', "bad_cancel"),
        (b"u2", b'{"request_id": "r1", "user_id": "u1"}', "wrong_key"),
    ],
)
def test_what_cannot_be_read_is_said_so(key: bytes, value: bytes | None, reason: str) -> None:
    read = read_cancel(key, value)
    assert isinstance(read, Unreadable)
    assert read.reason == reason


def test_what_can_be_read_is_read() -> None:
    assert read_cancel(b"u1", b'{"request_id": "r1", "user_id": "u1", "later": 1}') == WISH


@pytest.mark.parametrize("seed", range(200))
def test_wishes_among_facts_in_any_order_end_a_request_once(seed: int) -> None:
    chance = random.Random(seed)
    facts = facts_about(chance.choice(UNFINISHED))
    row = facts.generations["u1", "r1"]
    ended = refunded = 0
    for _ in range(20):
        if chance.random() < 0.4:
            cancelled, effects = cancelling.decide([WISH], facts)
            entries = effects.settlement.entries
            ended += isinstance(cancelled[0], Ended)
        else:
            status = chance.choice(["starting", "processing", "failed", "canceled", "aborted", "expired"])
            settled, settling = settlement.decide([PredictionUpdated("r1", "u1", status, "webhook", "p1")], facts)
            entries = settling.entries
            ended += isinstance(settled[0], Ended)
        refunded += sum(entry.amount for entry in entries)
    assert ended <= 1, f"seed {seed}"
    assert refunded == row.refunded == (4 if row.state in ENDED else 0), f"seed {seed}"
