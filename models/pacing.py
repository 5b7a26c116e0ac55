"""Pace: how many calls may go out now, so that no minute sees more than the limit, whoever makes them.

One number is shared by all workers: the moment at which the next call is due in an even flow (`next_at`). Calls may
run ahead of it by one second's worth, so that a small burst need not wait.
"""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """`burst` calls at once, then one every `interval_s`."""

    burst: int
    interval_s: float

    def granted(self, next_at_s: float, now_s: float, wanted: int) -> int:
        """How many of the wanted calls may go out now."""
        ahead_s = max(next_at_s, now_s) - now_s
        room = int((self.burst * self.interval_s - ahead_s) / self.interval_s + 1e-6)
        return max(0, min(wanted, room))

    def next_at_s(self, next_at_s: float, now_s: float, made: int) -> float:
        """The shared number after `made` calls."""
        return max(next_at_s, now_s) + made * self.interval_s

    def held_until_s(self, next_at_s: float, now_s: float, hold_s: float) -> float:
        """The shared number when nobody may call for `hold_s`; then the flow begins again, without a burst."""
        return max(next_at_s, now_s + hold_s + (self.burst - 1) * self.interval_s)


def pace_of(per_minute: int) -> Pace:
    """The pace that never puts more than `per_minute` calls into any minute, burst included."""
    burst = max(1, per_minute // 60)
    return Pace(burst, 60.0 / (per_minute - burst + 1))
