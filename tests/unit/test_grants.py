"""Grants: booked once."""

from __future__ import annotations

import msgspec
import pytest

from models import grants
from models.accounts import Account
from models.grants import AlreadyGranted, Dead, Facts, Granted
from tests.unit.records import FakeRecord


def grant_record(grant_id: str = "g1", amount: object = 10, kind: str = "purchase", **fields: object) -> FakeRecord:
    body = {"grant_id": grant_id, "user_id": "u1", "amount": amount, "kind": kind} | fields
    return FakeRecord(msgspec.json.encode(body))


def decide(*records: FakeRecord):
    inputs = [grants.read_grant(record.key, record.value) for record in records]
    decisions, effects = grants.decide(inputs, Facts({"u1": Account("u1", 5, 2)}, {}))
    return decisions, effects, grants.render(records, inputs, decisions)


def test_a_grant_is_booked_and_announced() -> None:
    decisions, effects, outputs = decide(grant_record())
    assert decisions == [Granted(15, 3, False)]
    assert [(entry.amount, entry.kind, entry.reference_id) for entry in effects.entries] == [(10, "purchase", "g1")]
    assert msgspec.json.decode(outputs[0][2]) == {
        "user_id": "u1",
        "balance": 15,
        "version": 3,
        "unlimited": False,
        "cause": {"kind": "purchase", "reference_id": "g1", "amount": 10},
    }


def test_a_duplicate_grant_is_booked_once() -> None:
    decisions, effects, outputs = decide(grant_record(), grant_record())
    assert decisions == [Granted(15, 3, False), AlreadyGranted()]
    assert len(effects.entries) == len(outputs) == 1


@pytest.mark.parametrize("change", [{"amount": 11}, {"kind": "bonus"}])
def test_another_grant_under_the_same_id_changes_nothing(change: dict[str, object]) -> None:
    decisions, effects, outputs = decide(grant_record(), grant_record(**change))
    assert isinstance(decisions[1], Dead)
    assert decisions[1].reason == "grant_conflict"
    assert len(effects.entries) == 1
    assert outputs[1][0] == "dead-letters.v1"


@pytest.mark.parametrize(
    "record",
    [
        grant_record(amount=0),
        grant_record(amount=1_000_001),
        grant_record(amount="10"),
        grant_record(kind="gift"),
        grant_record(grant_id="a/b"),
        grant_record(user_id="u2"),
        FakeRecord(b"{"),
        FakeRecord(None),
    ],
)
def test_a_bad_grant_goes_to_the_dead_letters(record: FakeRecord) -> None:
    decisions, effects, outputs = decide(record)
    assert isinstance(decisions[0], Dead)
    assert effects.entries == []
    assert outputs[0][2] == record.value
