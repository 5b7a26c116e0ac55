"""What the cache's events, floors and breaker decide."""

from __future__ import annotations

import json

from models.caching import (
    LATE_MS,
    RENEW_AGE_S,
    TTL_JITTER_MS,
    TTL_MS,
    Breaker,
    CreditReading,
    Floors,
    digest,
    is_due,
    is_usable,
    newest,
    ttl_ms,
)
from models.topics import DEAD_LETTERS
from tests.unit.records import FakeRecord

NOW_MS = 1_700_000_000_000


def change(user_id: str, version: int, *, age_ms: int = 0) -> FakeRecord:
    cause = {"kind": "bonus", "reference_id": "g", "amount": 1}
    body = {"user_id": user_id, "balance": version * 10, "version": version, "unlimited": False, "cause": cause}
    return FakeRecord(json.dumps(body).encode(), timestamp=NOW_MS - age_ms)


def reading(version: int) -> CreditReading:
    return CreditReading("ada", 10, version, False, 0.0, True)


def test_of_a_batch_only_the_latest_version_of_each_user_counts() -> None:
    moves, letters = digest([change("ada", 2), change("bob", 1), change("ada", 4), change("ada", 3)], NOW_MS)
    assert letters == []
    assert [(move.balance.user_id, move.balance.version) for move in moves] == [("ada", 4), ("bob", 1)]


def test_an_event_is_late_by_its_own_record() -> None:
    records = [change("ada", 1, age_ms=LATE_MS + 1), change("bob", 1, age_ms=LATE_MS), change("eve", 1, age_ms=-5_000)]
    assert [move.late for move in digest(records, NOW_MS)[0]] == [True, False, False]


def test_what_cannot_be_read_is_a_dead_letter_and_a_tombstone_is_nothing() -> None:
    moves, letters = digest([FakeRecord(None), FakeRecord(b"{"), change("ada", 1)], NOW_MS)
    assert [move.balance.user_id for move in moves] == ["ada"]
    assert [letter[0] for letter in letters] == [DEAD_LETTERS]


def test_a_held_balance_is_usable_from_its_version_down() -> None:
    assert [is_usable(reading(3), floor) for floor in (0, 3, 4)] == [True, True, False]
    assert not is_usable(None, 0)


def test_an_old_entry_is_due_while_there_is_time_left_to_renew_it() -> None:
    due = [is_due(reading(3)._replace(age_s=age_s)) for age_s in (0.0, RENEW_AGE_S, RENEW_AGE_S + 0.1)]
    assert due == [False, False, True]
    assert RENEW_AGE_S * 1000 < TTL_MS


def test_the_later_of_two_balances_is_shown_and_postgres_if_they_are_the_same() -> None:
    stored = reading(3)._replace(from_cache=False)
    assert newest(stored, reading(4)).version == 4
    assert newest(stored, reading(2)) is stored
    assert newest(stored, reading(3)) is stored


def test_lives_are_spread_and_bounded() -> None:
    assert [ttl_ms(chance) for chance in (0.0, 0.5, 0.999999)] == [TTL_MS, TTL_MS + TTL_JITTER_MS // 2, 32_999]


def test_a_floor_is_the_highest_version_shown_and_is_forgotten_in_time() -> None:
    floors = Floors(keep_s=60, users_max=100)
    assert not floors
    floors.lift("ada", 5, 0)
    floors.lift("ada", 3, 10)
    assert floors
    assert (floors.of("ada", 59), floors.of("bob", 59)) == (5, 0)
    floors.lift("bob", 1, 61)
    assert (floors.of("ada", 61), floors.of("bob", 61)) == (5, 1)
    assert (floors.of("ada", 122), floors.of("bob", 122)) == (0, 1)
    assert (floors.of("bob", 500), bool(floors)) == (0, False)


def test_floors_are_never_more_than_so_many() -> None:
    floors = Floors(keep_s=60, users_max=100)
    for number in range(1_000):
        floors.lift(f"user-{number}", 7, 0)
    kept = [number for number in range(1_000) if floors.of(f"user-{number}", 0)]
    assert 50 <= len(kept) <= 101
    assert kept[-1] == 999


def test_a_breaker_opens_at_the_first_failure_and_lets_one_probe_through_at_a_time() -> None:
    breaker = Breaker(probe_every_s=0.5)
    assert breaker.is_closed
    assert not breaker.takes_probe(0)
    breaker.fail(10.0)
    assert not breaker.is_closed
    assert [breaker.takes_probe(at_s) for at_s in (10.1, 10.5, 10.6, 11.0)] == [False, True, False, True]
    breaker.succeed()
    assert breaker.is_closed
