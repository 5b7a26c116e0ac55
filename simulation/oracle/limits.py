"""Which limits could hold for a decision: the history of each policy, by the time at which it was really changed."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from models.operations import POLICIES
from simulation.fakes.kafka import Broker

LAG_S = 0.6


class Limit(NamedTuple):
    """A policy as it held from `since_s` to `until_s`."""

    policy: str
    limit: int
    window_s: int
    is_enforced: bool
    max_in_flight: int | None
    since_s: float
    until_s: float


class LimitHistory:
    """`lag_s` is how long a worker may not hear of a change."""

    def __init__(self, broker: Broker, lag_s: float) -> None:
        self._lag_s = lag_s
        self._by_policy: dict[str, list[Limit]] = {
            name: [Limit(name, known.limit, known.window_s, True, known.max_in_flight, -1e9, 1e9)]
            for name, known in POLICIES.items()
        }
        changes = sorted(broker.topic("limits.changed.v1"), key=lambda record: (record.timestamp, record.offset))
        for record in changes:
            self._change(record.at_s, json.loads(record.value or b"{}"))

    def _change(self, at_s: float, change: dict[str, Any]) -> None:
        history = self._by_policy[change["policy"]]
        # Workers begin after the first changes are made, and read them before they decide anything.
        if at_s == 0.0:
            history.clear()
        else:
            history[-1] = history[-1]._replace(until_s=at_s)
        is_enforced = change.get("mode", "enforce") == "enforce"
        history.append(
            Limit(
                *(change["policy"], change["limit"], change["window_s"], is_enforced, change.get("max_in_flight")),
                at_s,
                1e9,
            )
        )

    def possible(self, policy: str, from_s: float, to_s: float) -> list[Limit]:
        """What may have held for a decision between these times."""
        return [one for one in self._by_policy[policy] if one.since_s <= to_s and one.until_s + self._lag_s >= from_s]
