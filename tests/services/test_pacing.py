"""The pace: no minute sees more than the limit, and nobody waits without need."""

from __future__ import annotations

import random

import pytest

from models.pacing import pace_of


@pytest.mark.parametrize("per_minute", [1, 2, 59, 60, 61, 600, 5000])
def test_no_minute_sees_more_than_the_limit(per_minute: int) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chances = random.Random(seed)
    pace, next_at, now, calls = pace_of(per_minute), 0.0, 1000.0, []
    while now < 1200.0:
        granted = pace.granted(next_at, now, chances.choice((1, 3, 50, 10_000)))
        next_at = pace.next_at_s(next_at, now, granted)
        calls += [now] * granted
        now += chances.choice((0.0, 0.01, 0.5, 3.0))
    assert calls
    first = 0
    for last, at in enumerate(calls):
        while calls[first] <= at - 60.0:
            first += 1
        assert last - first + 1 <= per_minute


def test_the_limit_can_be_reached() -> None:
    pace, next_at, calls = pace_of(600), 0.0, 0
    for tick in range(1200):
        granted = pace.granted(next_at, tick / 20, 100)
        next_at = pace.next_at_s(next_at, tick / 20, granted)
        calls += granted
    assert 595 <= calls <= 600


def test_a_burst_is_one_second_s_worth() -> None:
    assert pace_of(600).granted(0.0, 50.0, 100) == 10
    assert pace_of(30).granted(0.0, 50.0, 100) == 1


def test_nothing_goes_out_while_held_and_then_slowly() -> None:
    pace = pace_of(600)
    next_at = pace.held_until_s(0.0, 100.0, 5.0)
    assert pace.granted(next_at, 104.9, 100) == 0
    assert pace.granted(next_at, 105.01, 100) == 1
    assert pace.granted(next_at, 105.21, 100) == 3


def test_a_shorter_hold_does_not_shorten_a_longer_one() -> None:
    pace = pace_of(600)
    longer = pace.held_until_s(0.0, 100.0, 30.0)
    assert pace.held_until_s(longer, 101.0, 1.0) == longer
