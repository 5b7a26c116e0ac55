"""What the sampler makes of entries that differ from Postgres."""

from __future__ import annotations

from models.caching import Balance, CreditReading
from models.sampling import Comparison, Look, Ratio


def held(version: int, balance: int | None = None) -> dict[str, CreditReading | None]:
    return {"ada": CreditReading("ada", version * 10 if balance is None else balance, version, False, 0.0, True)}


def stored(version: int) -> dict[str, Balance]:
    return {"ada": Balance("ada", version * 10, version, False)}


def test_an_entry_that_waits_for_its_event_is_behind_and_not_stale() -> None:
    comparison = Comparison(propagation_s=2)
    assert comparison.look(held(1), stored(2), 0.0, 0.1) == Look(1, 1, 0, 0.0, 0)
    assert comparison.look(held(2), stored(2), 5.0, 5.1) == Look(1, 0, 0, 0.0, 0)
    assert comparison.suspects == []


def test_an_entry_is_stale_when_it_has_not_got_there_in_time() -> None:
    comparison = Comparison(propagation_s=2)
    comparison.look(held(1), stored(2), 0.0, 0.5)
    assert comparison.look(held(1), stored(3), 2.4, 2.5) == Look(1, 1, 0, 0.0, 0)
    assert comparison.look(held(1), stored(3), 2.5, 2.6) == Look(1, 1, 1, 2.0, 0)
    assert comparison.look(held(1), stored(3), 4.5, 4.6) == Look(1, 1, 1, 4.0, 0)


def test_an_entry_that_keeps_up_with_a_moving_balance_is_never_stale() -> None:
    comparison = Comparison(propagation_s=2)
    for version in range(1, 20):
        assert comparison.look(held(version), stored(version + 1), version * 1.5, version * 1.5).stale == 0


def test_an_entry_that_is_gone_is_forgotten() -> None:
    comparison = Comparison(propagation_s=2)
    comparison.look(held(1), stored(2), 0.0, 0.0)
    assert comparison.look({"ada": None}, stored(2), 5.0, 5.0) == Look(0, 0, 0, 0.0, 0)
    assert comparison.look(held(1), stored(2), 9.0, 9.0).stale == 0


def test_what_no_delay_explains_is_wrong() -> None:
    comparison = Comparison()
    assert comparison.look(held(2, balance=7), stored(2), 0.0, 0.0) == Look(1, 0, 0, 0.0, 1)
    assert comparison.look(held(3), stored(2), 0.0, 0.0) == Look(1, 0, 0, 0.0, 1)
    assert comparison.look(held(3), {}, 0.0, 0.0) == Look(1, 0, 0, 0.0, 1)


def test_the_ratio_is_over_the_last_looks_only() -> None:
    ratio = Ratio(looks=2)
    assert ratio.add(Look(0, 0, 0, 0.0, 0)) == 0.0
    assert ratio.add(Look(8, 2, 2, 3.0, 0)) == 0.25
    assert ratio.add(Look(8, 2, 2, 3.0, 0)) == 0.25
    assert ratio.add(Look(8, 0, 0, 0.0, 0)) == 0.125
    assert ratio.add(Look(8, 0, 0, 0.0, 0)) == 0.0
