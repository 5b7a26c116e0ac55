"""A rate limit as the provider's: so many creations a minute, refilled evenly. Pure."""

from __future__ import annotations


class Throttle:
    """A bucket of `per_minute` tokens; 0 means no limit. Moments are seconds and only go forward."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._at = now

    def take(self, now: float) -> float:
        """Takes a token; 0.0 if there was one, else the seconds until there is."""
        if not self._per_minute:
            return 0.0
        speed = self._per_minute / 60
        self._tokens = min(self._per_minute, self._tokens + max(0.0, now - self._at) * speed)
        self._at = max(self._at, now)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / speed

    @property
    def remaining(self) -> int:
        return int(self._tokens)
