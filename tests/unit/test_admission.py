"""Deciding admission: plain functions on plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import admission, answers
from models.accounts import Account
from models.admission import (
    Admitted,
    Conflicting,
    Dead,
    Facts,
    InsufficientCredits,
    Invalid,
    PartitionState,
    RateLimited,
    Repeated,
    TooManyInFlight,
)
from models.facts import read_prediction, read_stored
from models.grants import read_grant
from models.operations import OPERATIONS, POLICIES, Mode, Policy
from models.outputs import dead_letter
from models.queueing import read_admitted
from models.requests import read_request
from tests.unit.records import FakeRecord, request_value


def decide(
    records: list[FakeRecord],
    facts: Facts,
    state: PartitionState | None = None,
    clock_ms: int = 0,
    policies: Mapping[str, Policy] = POLICIES,
):
    inputs = [read_request(record.key, record.value) for record in records]
    return (*admission.decide(records, inputs, facts, state or PartitionState(), policies, clock_ms), inputs)


def with_credits(balance: int, *, unlimited: bool = False) -> Facts:
    return Facts(accounts={"u1": Account("u1", balance, 7, unlimited)}, known={})


def test_an_admitted_request_is_charged_its_cost_in_one_entry() -> None:
    decisions, effects, _, _ = decide([FakeRecord(request_value())], with_credits(5))
    assert decisions == [Admitted(cost=1, balance=4, version=8)]
    (entry,) = effects.entries
    assert (entry.amount, entry.kind, entry.reference_id, entry.balance_after, entry.version) == (
        -1,
        "charge",
        "u1/r1",
        4,
        8,
    )


def test_a_duplicate_request_charges_once() -> None:
    records = [FakeRecord(request_value(), offset=0), FakeRecord(request_value(), offset=1)]
    decisions, effects, _, _ = decide(records, with_credits(5))
    assert decisions == [Admitted(1, 4, 8), Repeated(1, 4, 8, 1_000_000)]
    assert len(effects.entries) == len(effects.generations) == 1


def test_the_same_id_with_other_content_is_a_conflict() -> None:
    records = [FakeRecord(request_value()), FakeRecord(request_value(prompt="another harbour"))]
    decisions, effects, _, _ = decide(records, with_credits(5))
    assert decisions[1] == Conflicting()
    assert len(effects.entries) == 1


def test_a_refused_large_charge_does_not_block_a_smaller_later_one() -> None:
    records = [
        FakeRecord(request_value("big", operation="studio.images")),
        FakeRecord(request_value("small"), offset=1),
    ]
    decisions, _, _, _ = decide(records, with_credits(2))
    assert decisions == [InsufficientCredits(4, 2), Admitted(1, 1, 8)]


def test_a_request_refused_for_credits_takes_no_place_in_the_window() -> None:
    state = PartitionState()
    decide([FakeRecord(request_value())], with_credits(0), state)
    assert state.windows.users() == 0


def test_a_user_without_an_account_has_no_credits() -> None:
    decisions, _, _, _ = decide([FakeRecord(request_value())], Facts({}, {}))
    assert decisions == [InsufficientCredits(1, 0)]


def test_an_unlimited_account_is_limited_but_not_charged() -> None:
    records = [FakeRecord(request_value(f"r{n}"), offset=n) for n in range(31)]
    decisions, effects, _, _ = decide(records, with_credits(0, unlimited=True))
    assert decisions[:30] == [Admitted(0, 0, 7, unlimited=True)] * 30
    assert isinstance(decisions[30], RateLimited)
    assert effects.entries == []


def test_the_thirty_first_request_of_a_minute_is_told_when_to_come_again() -> None:
    records = [FakeRecord(request_value(f"r{n}"), offset=n, timestamp=1_000_000 + n) for n in range(31)]
    decisions, _, _, _ = decide(records, with_credits(100))
    assert decisions[30] == RateLimited("maya.image", 30, 60, 0, 60_000 - 30)


def test_time_never_runs_backwards_within_a_partition() -> None:
    records = [FakeRecord(request_value("a"), timestamp=5_000), FakeRecord(request_value("b"), timestamp=4_000)]
    decisions, effects, clock_ms, _ = decide(records, with_credits(9))
    assert clock_ms == 5_000
    assert [row.admitted_at_ms for row in effects.generations] == [5_000, 5_000]
    assert decisions[1].late_ms == 1_000


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (request_value(operation="maya.sculpture"), "operation"),
        (request_value(operation=[]), "operation"),
        (request_value(operation={}), "operation"),
        (request_value(prompt=""), "prompt"),
        (request_value(prompt="x" * 4001), "prompt"),
        (request_value(prompt="a\0b"), "prompt"),
        (request_value(options={"num_outputs": 9}), "options.num_outputs"),
        (request_value(options={"aspect_ratio": "wide"}), "options.aspect_ratio"),
        (request_value(context={"position": 0}), "context.position"),
        (request_value(prompt="x" * 70_000), ""),
    ],
)
def test_bad_content_with_good_ids_is_answered_invalid_by_field(value: bytes, field: str) -> None:
    record = FakeRecord(value)
    decisions, effects, _, inputs = decide([record], with_credits(5))
    assert isinstance(decisions[0], Invalid)
    assert decisions[0].errors[0].field == field
    assert effects.entries == []
    (output,) = answers.render([record], inputs, decisions)
    assert msgspec.json.decode(output[2])["reason"] == "invalid"


def test_a_key_that_is_not_the_user_is_answered_invalid() -> None:
    decisions, _, _, _ = decide([FakeRecord(request_value(), key=b"u2")], with_credits(5))
    assert decisions[0].errors[0].field == "key"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"\xff\xfe", "bad_utf8"),
        (b'{"request_id": "r', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"[1]", "not_an_object"),
        (b'{"request_id":"r1"}', "no_ids"),
        (request_value("r/1"), "no_ids"),
        (request_value("r" * 129), "no_ids"),
    ],
)
def test_bytes_without_ids_go_to_the_dead_letters_byte_for_byte(value: bytes | None, reason: str) -> None:
    record = FakeRecord(value, offset=41, partition=3, headers=[("x", b"y")])
    decisions, _, _, inputs = decide([record], with_credits(5))
    assert isinstance(decisions[0], Dead)
    assert decisions[0].reason == reason
    ((topic, key, body, headers),) = answers.render([record], inputs, decisions)
    assert (topic, key, body) == ("dead-letters.v1", b"u1", value)
    found = dict(headers)
    assert found["x"] == b"y"
    assert (found["dl_partition"], found["dl_offset"], found["dl_reason"]) == (b"3", b"41", reason.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["request_id", "user_id", "operation", "prompt", "options", "context", "grant_id", "amount", "kind", "status"]


@given(
    value=st.one_of(
        st.binary(max_size=200),
        JSON.map(lambda body: json.dumps(body).encode()),
        st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda body: json.dumps(body).encode()),
        st.dictionaries(st.sampled_from(FIELDS), JSON).map(
            lambda body: json.dumps({"request_id": "r1", "user_id": "u1"} | body).encode()
        ),
    )
)
def test_whatever_is_sent_is_answered_or_buried(value: bytes) -> None:
    record = FakeRecord(value)
    decisions, _, _, inputs = decide([record], with_credits(5))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decisions), type=list[admission.Decision]) == decisions
    assert len(answers.render([record], inputs, decisions)) >= 1
    for read in (read_grant, lambda key, value: read_prediction(value), lambda key, value: read_stored(value)):
        assert read(b"u1", value) is not None
    assert read_admitted(value) is not None


def test_a_letter_keeps_its_record_and_tells_the_truth_about_it() -> None:
    huge = b"x" * (3 << 20)
    record = FakeRecord(huge, headers=[("dl_topic", b"elsewhere"), ("mine", b"kept")])
    _, _, body, headers = dead_letter(record, "bad_json", "no")
    assert body == huge[: 2 << 20]
    assert [value for name, value in headers if name == "dl_topic"] == [b"generations.requested.v1"]
    assert dict(headers)["dl_truncated"] == str(3 << 20).encode()
    assert dict(headers)["mine"] == b"kept"


def test_decisions_survive_packing_and_render_the_same_events() -> None:
    records = [FakeRecord(request_value(f"r{n}"), offset=n) for n in range(32)]
    records += [FakeRecord(request_value("r0"), offset=40), FakeRecord(b"{", offset=41)]
    records += [FakeRecord(request_value("r0", prompt="else"), offset=42), FakeRecord(request_value("z", prompt=""))]
    decisions, _, _, inputs = decide(records, with_credits(100))
    packed = msgspec.msgpack.encode(decisions)
    unpacked = msgspec.msgpack.decode(packed, type=list[admission.Decision])
    assert unpacked == decisions
    assert answers.render(records, inputs, unpacked) == answers.render(records, inputs, decisions)


def test_every_answer_carries_cloudevents_headers_and_passes_traceparent_on() -> None:
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    record = FakeRecord(request_value(), headers=[trace])
    decisions, _, _, inputs = decide([record], with_credits(1))
    admitted, changed = answers.render([record], inputs, decisions)
    headers = dict(admitted[3])
    assert headers["ce_id"] == b"u1/r1/admitted"
    assert headers["ce_type"] == b"generations.admitted.v1"
    assert headers["traceparent"] == trace[1]
    assert dict(changed[3])["ce_id"] == b"u1/credits/8"
    assert msgspec.json.decode(changed[2])["cause"] == {"kind": "charge", "reference_id": "u1/r1", "amount": -1}


def test_a_refusal_says_what_a_product_can_show() -> None:
    records = [FakeRecord(request_value(f"r{n}"), offset=n) for n in range(31)]
    decisions, _, _, inputs = decide(records, with_credits(30))
    event = msgspec.json.decode(answers.render(records[30:], inputs[30:], decisions[30:])[0][2])
    assert event == {
        "request_id": "r30",
        "user_id": "u1",
        "operation": "maya.image",
        "reason": "rate_limited",
        "message": "Too many image generation requests. Try again in 60 s.",
        "policy": "maya.image",
        "limit": 30,
        "window_s": 60,
        "remaining": 0,
        "retry_after_s": 60.0,
    }


def test_every_operation_costs_and_is_limited_by_itself() -> None:
    options = {
        "video.animation": {"image_url": "https://pictures.example/1.jpg"},
        "training.model": {"images": [f"https://pictures.example/{n}.jpg" for n in range(5)]},
    }
    for name, operation in OPERATIONS.items():
        state, budget = PartitionState(), operation.cost * (operation.policy.limit + 1)
        records = [
            FakeRecord(request_value(f"r{n}", operation=name, options=options.get(name, {})), offset=n)
            for n in range(operation.policy.limit + 1)
        ]
        decisions, effects, _, _ = decide(records, with_credits(budget), state)
        assert [type(decision) for decision in decisions] == [Admitted] * operation.policy.limit + [RateLimited]
        assert {entry.amount for entry in effects.entries} == {-operation.cost}
        others = [
            FakeRecord(request_value(f"o{n}", operation=other, options=options.get(other, {})))
            for n, other in enumerate(OPERATIONS)
            if other != name
        ]
        assert {type(decision) for decision in decide(others, with_credits(100), state)[0]} == {Admitted}


def test_shadow_mode_admits_what_it_would_refuse_and_counts_it() -> None:
    policies = POLICIES | {"maya.image": replace(POLICIES["maya.image"], limit=1, mode=Mode.SHADOW)}
    records = [FakeRecord(request_value(f"r{n}"), offset=n) for n in range(3)]
    decisions, effects, _, _ = decide(records, with_credits(9), policies=policies)
    assert {type(decision) for decision in decisions} == {Admitted}
    assert effects.shadowed == {"maya.image": 2}
    assert {(row.window_limit, row.window_s) for row in effects.generations} == {(None, None)}


def test_rows_keep_the_limit_that_was_enforced() -> None:
    policies = POLICIES | {"maya.image": replace(POLICIES["maya.image"], limit=7, window_s=9)}
    _, effects, _, _ = decide([FakeRecord(request_value())], with_credits(9), policies=policies)
    assert [(row.window_limit, row.window_s) for row in effects.generations] == [(7, 9)]


def test_a_request_over_the_cap_of_unfinished_ones_is_refused_and_not_charged() -> None:
    policies = POLICIES | {"maya.image": replace(POLICIES["maya.image"], max_in_flight=2)}
    state = PartitionState()
    state.in_flight.restart(policies["maya.image"])
    records = [FakeRecord(request_value(f"r{n}"), offset=n) for n in range(3)]
    decisions, effects, _, inputs = decide(records, with_credits(9), state, policies=policies)
    assert decisions[2] == TooManyInFlight("maya.image", 30, 60, 28, 2)
    assert len(effects.entries) == 2
    event = msgspec.json.decode(answers.render(records[2:], inputs[2:], decisions[2:])[0][2])
    assert (event["reason"], event["max_in_flight"]) == ("rate_limited", 2)
    assert event["message"] == "You have 2 image generation requests under way. Try again when one is done."
    state.in_flight.forget([("u1", "r0")])
    assert isinstance(
        decide([FakeRecord(request_value("r9"))], with_credits(9), state, policies=policies)[0][0], Admitted
    )


def test_fewer_pictures_than_a_set_cost_their_part() -> None:
    records = [
        FakeRecord(request_value(f"r{number}", operation="studio.images", options={"num_outputs": number}))
        for number in (1, 3, 4)
    ]
    decisions, _, _, _ = decide(records, with_credits(20))
    assert [decision.cost for decision in decisions] == [1, 3, 4]
    assert decide(records[1:2], with_credits(2))[0] == [InsufficientCredits(3, 2)]
