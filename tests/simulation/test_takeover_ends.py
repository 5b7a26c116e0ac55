"""A topic's end is asked for before a partition is opened; an owner who has not left yet may go past it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from models.errors import TopicMadeAnew
from simulation.loop import run_virtually
from streams.lanes import Lanes, LaneSession, TopicPartition

TP = TopicPartition("topic", 0)


class _Consumer:
    """Tells one end after the other; the last one stays."""

    def __init__(self, *ends: int) -> None:
        self.ends = list(ends)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        return dict.fromkeys(partitions, end)

    def on_buffer_full(self, tp: TopicPartition) -> None:
        raise AssertionError

    def on_buffer_drop(self, tp: TopicPartition) -> None:
        raise AssertionError


class _Session:
    position = 6
    alive_at = 0.0


class _Handler:
    """Has handled six records."""

    async def open(self, partition: int, end_offset: int) -> LaneSession:
        if end_offset < 6:
            raise TopicMadeAnew("ends too early", 6)
        return _Session()  # type: ignore[return-value]


def opened_with(*ends: int) -> Lanes:
    """Lanes whose one partition was opened while its topic had these ends."""

    async def main() -> Lanes:
        lanes = Lanes(records_max=1, bytes_max=1)
        lanes.attach(_Consumer(*ends))
        lanes.add("topic", _Handler())
        lanes.assign([TP])
        await asyncio.sleep(1.0)
        return lanes

    return run_virtually(main())


def test_an_end_that_was_asked_for_too_early_is_asked_for_again() -> None:
    lanes = opened_with(5, 6)
    assert lanes.failure is None
    assert lanes.here[TP].begun


def test_a_topic_that_goes_on_to_end_too_early_stops_the_worker() -> None:
    lanes = opened_with(3, 4, 4)
    assert isinstance(lanes.failure, TopicMadeAnew)
    assert not lanes.here[TP].begun
