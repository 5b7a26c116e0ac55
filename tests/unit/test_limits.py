"""What limits.changed.v1 may say, and what it makes of the policies."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import WrongUse
from models.limits import Policies, changed_policy, read_change, render_change
from models.operations import POLICIES, Mode, Policy
from models.requests import Unreadable

MAYA = POLICIES["maya.image"]
GOOD = {"policy": "maya.image", "limit": 5, "window_s": 10, "mode": "shadow", "max_in_flight": 2}


def read(body: object, key: bytes = b"maya.image") -> Policy | Unreadable:
    return read_change(key, msgspec.json.encode(body))


def test_a_change_replaces_what_it_names_and_keeps_the_weight() -> None:
    assert read(GOOD) == Policy("maya.image", 5, 10, MAYA.weight, Mode.SHADOW, 2)


def test_mode_and_cap_have_defaults() -> None:
    assert read({"policy": "maya.image", "limit": 5, "window_s": 10}) == replace(MAYA, limit=5, window_s=10)


def test_a_tombstone_brings_the_catalogue_back() -> None:
    policies = Policies()
    policies.apply(b"maya.image", msgspec.json.encode(GOOD), (1, 0, 0))
    assert policies["maya.image"].limit == 5
    policies.apply(b"maya.image", None, (2, 0, 1))
    assert dict(policies) == POLICIES


def test_the_latest_change_holds_in_whatever_order_they_are_read() -> None:
    """Another client may have put them into different partitions."""
    older, newer = ({"policy": "maya.image", "limit": limit, "window_s": 60} for limit in (5, 50))
    changes = [(older, (1_000, 4, 7)), (newer, (2_000, 1, 0))]
    for order in (changes, changes[::-1]):
        policies = Policies()
        for change, moment in order:
            policies.apply(b"maya.image", msgspec.json.encode(change), moment)
        assert policies["maya.image"].limit == 50


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"limit": -1}, "bad_change"), ({"limit": 1_000_001}, "bad_change"), ({"window_s": 0}, "bad_change"),
     ({"window_s": 31 * 86_400 + 1}, "bad_change"), ({"window_s": 1.5}, "bad_change"), ({"mode": "off"}, "bad_change"),
     ({"max_in_flight": 0}, "bad_change"), ({"policy": "studio.images"}, "wrong_key")],
)  # fmt: skip
def test_a_bad_change_is_refused_and_changes_nothing(change: dict[str, object], reason: str) -> None:
    policies = Policies()
    refused = policies.apply(b"maya.image", msgspec.json.encode(GOOD | change), (1, 0, 0))
    assert isinstance(refused, Unreadable)
    assert refused.reason == reason
    assert dict(policies) == POLICIES


def test_an_unknown_policy_is_refused_by_its_name() -> None:
    refused = read(GOOD, b"maya.video")
    assert isinstance(refused, Unreadable)
    assert "maya.video" in refused.error


def test_what_a_person_asks_for_is_checked_before_it_is_sent() -> None:
    assert changed_policy(MAYA, {"limit": 3}).limit == 3
    with pytest.raises(WrongUse, match=r"^limit: "):
        changed_policy(MAYA, {"limit": -1})
    with pytest.raises(WrongUse, match=r"^window_s: "):
        changed_policy(MAYA, {"window_s": 0})


@given(st.binary(max_size=200) | st.none(), st.sampled_from(sorted(POLICIES)))
def test_nothing_on_the_topic_can_break_a_reader(value: bytes | None, name: str) -> None:
    assert isinstance(read_change(name.encode(), value), Policy | Unreadable)


@given(
    st.sampled_from(sorted(POLICIES)), st.integers(0, 1_000_000), st.integers(1, 31 * 86_400), st.sampled_from(Mode),
    st.none() | st.integers(1, 50),
)  # fmt: skip
def test_every_policy_survives_its_event(name: str, limit: int, window_s: int, mode: Mode, cap: int | None) -> None:
    policy = replace(POLICIES[name], limit=limit, window_s=window_s, mode=mode, max_in_flight=cap)
    _, key, value, _ = render_change(policy, "x")
    assert read_change(key, value) == policy
