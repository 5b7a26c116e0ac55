"""Token buckets for many callers in little memory: one number a caller. Pure.

A bucket of `burst` requests that fills at `per_s` is the same as a moment at which it will be full again; a request is
refused when it would move that moment more than a whole bucket ahead of now.
"""

from __future__ import annotations

from collections import OrderedDict


class Buckets:
    """Buckets by key, at most `keys_max`: the one unused for longest is forgotten first, which fills it."""

    def __init__(self, per_s: float, burst: float, keys_max: int) -> None:
        self._each_s = 1.0 / per_s
        self._burst_s = burst / per_s
        self._keys_max = keys_max
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now_s: float) -> float:
        """0 when the request may go on, else the seconds after which one may; a refused request takes nothing."""
        full_at = max(self._full_at.get(key, now_s), now_s) + self._each_s
        wait_s = full_at - now_s - self._burst_s
        # Adding up fractions of a second must not cost the last request of a burst.
        if wait_s > 1e-6:
            return wait_s
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._keys_max:
            self._full_at.popitem(last=False)
        return 0.0

    def wait_s(self, key: str, now_s: float) -> float:
        """What `take` would say, without taking anything."""
        wait_s = max(self._full_at.get(key, now_s), now_s) + self._each_s - now_s - self._burst_s
        return wait_s if wait_s > 1e-6 else 0.0
