"""How far behind a worker is: offsets to the topic's end, and the age of the oldest record not handled.

What waits in the lanes is known here; where the topics end is asked for when somebody scrapes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from streams.lanes import Lane, Lanes, TopicPartition
from streams.metrics import LAG, OLDEST_RECORD
from streams.scrapes import Seldom

AskEnds = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]


class Lag:
    """Sets the gauges of one role's topics."""

    def __init__(self, role: str, lanes: Lanes, ask_ends: AskEnds, topic_prefix: str = "") -> None:
        self._role = role
        self._lanes = lanes
        self._ask_ends = ask_ends
        self._prefix = topic_prefix
        self._ends: Mapping[TopicPartition, int] = {}
        self._seldom = Seldom("ends of topics", self._refresh_ends)

    async def refresh(self) -> None:
        """Bring the gauges up to date. Kafka being away leaves the ends as they were, never an error."""
        await self._seldom()
        offsets: dict[str, int] = defaultdict(int)
        ages_s: dict[str, float] = defaultdict(float)
        now_s = time.time()
        for tp, lane in list(self._lanes.here.items()):
            behind = self._behind(lane)
            offsets[tp.topic] += behind
            ages_s[tp.topic] = max(ages_s[tp.topic], _age_s(lane, behind, now_s))
        for topic in self._lanes.handlers:
            labels = (self._role, topic.removeprefix(self._prefix))
            LAG.labels(*labels).set(offsets[topic])
            OLDEST_RECORD.labels(*labels).set(ages_s[topic])

    def _behind(self, lane: Lane) -> int:
        end, oldest = self._ends.get(lane.tp, 0), lane.oldest
        if oldest is not None:
            # What came after the end was asked for is behind it and counts too.
            return max(end - oldest.offset, lane.waiting)
        position = self._lanes.position_of(lane.tp) if lane.positioned else lane.done_offset or lane.committed
        return max(0, end - (end if position is None else position))

    async def _refresh_ends(self) -> None:
        self._ends = await self._ask_ends(list(self._lanes.here))


def _age_s(lane: Lane, behind: int, now_s: float) -> float:
    if lane.oldest is not None:
        return max(0.0, now_s - lane.oldest.timestamp / 1000)
    return 0.0 if lane.positioned or not behind else time.monotonic() - lane.closed_since
