"""The sliding window against a naive reference that keeps everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.operations import Policy
from models.windows import WindowLog

POLICY = Policy("pictures", limit=3, window_s=10)


def test_a_full_window_frees_its_place_at_the_exact_millisecond() -> None:
    windows = WindowLog()
    for at_ms in (1_000, 2_000, 3_000):
        assert windows.free_at_ms(POLICY, "u", at_ms) == at_ms
        windows.add(POLICY, "u", at_ms)
    assert windows.free_at_ms(POLICY, "u", 10_999) == 11_000
    assert windows.free_at_ms(POLICY, "u", 11_000) == 11_000


def test_a_refusal_does_not_prolong_the_block() -> None:
    windows = WindowLog()
    for _ in range(3):
        windows.add(POLICY, "u", 0)
    for at_ms in range(0, 10_000, 500):
        assert windows.free_at_ms(POLICY, "u", at_ms) == 10_000
    assert windows.free_at_ms(POLICY, "u", 10_000) == 10_000


def test_a_heavy_request_waits_until_enough_places_are_free() -> None:
    heavy = Policy("pictures", limit=3, window_s=10, weight=2)
    windows = WindowLog()
    windows.add(POLICY, "u", 1_000)
    windows.add(POLICY, "u", 4_000)
    assert windows.free_at_ms(heavy, "u", 5_000) == 11_000
    assert windows.remaining(heavy, "u", 5_000) == 1


def test_users_and_policies_do_not_share_a_window() -> None:
    other = Policy("films", limit=3, window_s=10)
    windows = WindowLog()
    for _ in range(3):
        windows.add(POLICY, "u", 0)
    assert windows.free_at_ms(POLICY, "v", 1) == 1
    assert windows.free_at_ms(other, "u", 1) == 1


def test_idle_users_are_forgotten_and_active_ones_are_kept() -> None:
    windows = WindowLog()
    windows.add(POLICY, "idle", 0)
    windows.add(POLICY, "active", 0)
    windows.add(POLICY, "active", 9_000)
    windows.forget_idle(POLICY, 10_000)
    assert windows.users() == 1
    assert windows.remaining(POLICY, "active", 10_000) == 2


def test_a_limit_of_zero_admits_nobody() -> None:
    closed = Policy("closed", limit=0, window_s=5)
    assert WindowLog().free_at_ms(closed, "u", 100) == 5_100


def test_a_window_that_has_grown_needs_older_entries_than_were_kept() -> None:
    short, long = Policy("p", limit=3, window_s=10), Policy("p", limit=3, window_s=60)
    windows = WindowLog()
    windows.restart(short)
    assert windows.keeps_enough(short)
    assert not windows.keeps_enough(long)
    windows.restart(long)
    assert windows.keeps_enough(long)


def test_a_window_that_shrank_and_grew_again_needs_its_entries_loaded() -> None:
    short, long = Policy("p", limit=3, window_s=10), Policy("p", limit=3, window_s=60)
    windows = WindowLog()
    windows.restart(long)
    assert windows.keeps_enough(short)
    assert not windows.keeps_enough(long)


class Naive:
    """Keeps every admission for ever and counts."""

    def __init__(self) -> None:
        self.admitted: list[tuple[str, int]] = []

    def fits(self, policy: Policy, user_id: str, at_ms: int) -> bool:
        inside = [t for u, t in self.admitted if u == user_id and at_ms - policy.window_ms < t <= at_ms]
        return len(inside) + policy.weight <= policy.limit

    def add(self, policy: Policy, user_id: str, at_ms: int) -> None:
        self.admitted += [(user_id, at_ms)] * policy.weight


@given(
    limit=st.integers(0, 5),
    window_s=st.integers(1, 4),
    weight=st.integers(1, 3),
    arrivals=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1_500)), max_size=60),
)
def test_decisions_and_retry_times_equal_the_naive_reference(
    limit: int, window_s: int, weight: int, arrivals: list[tuple[str, int]]
) -> None:
    policy = Policy("p", limit=limit, window_s=window_s, weight=weight)
    windows, naive, now_ms = WindowLog(), Naive(), 0
    for user_id, pause_ms in arrivals:
        now_ms += pause_ms
        free_at_ms = windows.free_at_ms(policy, user_id, now_ms)
        assert (free_at_ms == now_ms) == naive.fits(policy, user_id, now_ms)
        if free_at_ms == now_ms:
            windows.add(policy, user_id, now_ms)
            naive.add(policy, user_id, now_ms)
        elif weight <= limit:
            assert naive.fits(policy, user_id, free_at_ms)
            assert not naive.fits(policy, user_id, free_at_ms - 1)
        windows.forget_idle(policy, now_ms)
