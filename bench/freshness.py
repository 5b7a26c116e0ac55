"""How old the balances were that readers were shown, by the broker's times of the events.

An event is published after its commit, so from its append time on Postgres surely held that version. A read that began
later and showed less was stale, for the time from that append to its beginning.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.credit_readers import Record


@dataclass(frozen=True)
class Freshness:
    """`stale` reads showed less than Postgres held as they began; `too_old` of them by more than a propagation time."""

    stale: int
    too_old: int
    oldest_ms: float


class Commits:
    """When each user's versions were in Postgres at the latest."""

    def __init__(self, records: Iterable[Any], numbers: dict[str, int]) -> None:
        """`records` are those of credits.changed.v1; `numbers` are the users' numbers by id."""
        first_ms: dict[int, dict[int, int]] = {}
        self.events = 0
        for record in records:
            body = json.loads(record.value)
            versions = first_ms.setdefault(numbers[body["user_id"]], {})
            versions.setdefault(body["version"], record.timestamp)
            versions[body["version"]] = min(versions[body["version"]], record.timestamp)
            self.events += 1
        self._versions: dict[int, list[int]] = {}
        self._times_s: dict[int, list[float]] = {}
        for user, versions in first_ms.items():
            self._versions[user] = sorted(versions)
            # A later version in Postgres means that the earlier ones had been there.
            latest, times = float("inf"), []
            for version in reversed(self._versions[user]):
                latest = min(latest, versions[version] / 1000)
                times.append(latest)
            self._times_s[user] = times[::-1]

    def check(self, record: Record, propagation_s: float) -> Freshness:
        """Compare what was shown with what Postgres had held."""
        stale = too_old = 0
        oldest_s = 0.0
        for user, version, began_s in zip(record.users, record.versions, record.began_s, strict=True):
            versions = self._versions.get(user)
            if versions is None:
                continue
            following = bisect_right(versions, version)
            if following == len(versions):
                continue
            # The broker's clock has milliseconds and rounds down.
            age_s = began_s - self._times_s[user][following] - 0.001
            if age_s > 0:
                stale += 1
                too_old += age_s > propagation_s
                oldest_s = max(oldest_s, age_s)
        return Freshness(stale, too_old, round(oldest_s * 1000, 1))
