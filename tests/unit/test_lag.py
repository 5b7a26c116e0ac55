"""Lag and age, from lanes in every situation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from prometheus_client import REGISTRY

from models.errors import Fenced, Unavailable
from models.outputs import Record
from streams.lag import Lag
from streams.lanes import Lanes, TopicPartition
from tests.support.waiting import eventually
from tests.unit.records import FakeRecord

TOPIC = "generations.requested.v1"
HERE = TopicPartition("test." + TOPIC, 0)


class Session:
    position = 10
    alive_at = 0.0

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.fences = False

    async def handle(self, records: list[Record]) -> int:
        await self.may_end.wait()
        if self.fences:
            self.fences = False
            raise Fenced("says the test")
        return records[-1].offset + 1

    def close(self) -> None:
        """Nothing to give up."""


class Handler:
    """Opens its session unless Postgres is away."""

    def __init__(self) -> None:
        self.session = Session()
        self.is_away = False

    async def open(self, partition: int, end_offset: int) -> Session:
        if self.is_away:
            raise Unavailable("Postgres", "it is away")
        return self.session


class Consumer:
    """Kafka's side: where topics end, and where fetching stands."""

    end = 10
    position = 10
    is_away = False

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)

    async def ask_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self.is_away:
            raise Unavailable("Kafka", "it is away")
        return dict.fromkeys(partitions, self.end)

    def on_buffer_full(self, tp: TopicPartition) -> None: ...

    def on_buffer_drop(self, tp: TopicPartition) -> None: ...

    def position_of(self, tp: TopicPartition) -> int | None:
        return self.position


def shown() -> tuple[float, float]:
    labels = {"role": "testing", "topic": TOPIC}
    lag = REGISTRY.get_sample_value("darkroom_lag_records", labels)
    age_s = REGISTRY.get_sample_value("darkroom_oldest_record_age_seconds", labels)
    assert lag is not None
    assert age_s is not None
    return lag, age_s


async def refreshed(lanes: Lanes, consumer: Consumer) -> tuple[float, float]:
    await Lag("testing", lanes, consumer.ask_ends, "test.").refresh()
    return shown()


def lanes_with(handler: Handler, consumer: Consumer) -> Lanes:
    lanes = Lanes(records_max=2, bytes_max=1 << 20, topic_prefix="test.")
    lanes.add(HERE.topic, handler)
    lanes.attach(consumer)
    return lanes


def record(offset: int, age_s: float) -> FakeRecord:
    return FakeRecord(b"{}", offset=offset, timestamp=int((time.time() - age_s) * 1000), topic=HERE.topic)


async def make_seeks(lanes: Lanes) -> bool:
    async def made(offsets: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        return set(offsets)

    await lanes.make_seeks(made)
    return lanes.ready()


async def test_lag_counts_from_the_batch_in_hand_to_the_end_and_ages_by_broker_time() -> None:
    handler, consumer = Handler(), Consumer()
    lanes = lanes_with(handler, consumer)
    lanes.assign([HERE])
    await eventually(lambda: make_seeks(lanes))
    assert await refreshed(lanes, consumer) == (0, 0)
    lane = lanes.here[HERE]
    lane.start()
    lanes.gather(HERE, [record(offset, 60 - offset) for offset in range(10, 15)])
    consumer.position, consumer.end = 15, 30
    await eventually(lambda: lane.busy_since is not None)
    lag, age_s = await refreshed(lanes, consumer)
    assert lag == 20
    assert 50 <= age_s < 55
    handler.session.may_end.set()
    await eventually(lambda: lane.oldest is None)
    # What is handled and what is not fetched yet: 15 to 30.
    assert await refreshed(lanes, consumer) == (15, 0)
    consumer.position = 30
    assert await refreshed(lanes, consumer) == (0, 0)
    await lanes.revoke([HERE], 1.0)
    assert await refreshed(lanes, consumer) == (0, 0)


async def test_what_came_since_the_end_was_asked_for_is_counted_too() -> None:
    handler, consumer = Handler(), Consumer()
    lanes = lanes_with(handler, consumer)
    lanes.assign([HERE])
    await eventually(lambda: make_seeks(lanes))
    lanes.here[HERE].gather([record(offset, 1) for offset in range(10, 17)])
    assert (await refreshed(lanes, consumer))[0] == 7
    await lanes.revoke([HERE], 1.0)


async def test_a_partition_that_cannot_be_opened_is_behind_by_what_is_not_committed() -> None:
    handler, consumer = Handler(), Consumer()
    handler.is_away = True
    consumer.end = consumer.position = 40
    lanes = lanes_with(handler, consumer)
    lanes.assign([HERE], {HERE: 25})
    lanes.here[HERE].closed_since -= 100
    lag, age_s = await refreshed(lanes, consumer)
    assert lag == 15
    assert 100 <= age_s < 110
    await lanes.revoke([HERE], 1.0)


async def test_a_fenced_lane_is_counted_and_keeps_the_lag_of_what_was_acked() -> None:
    handler, consumer = Handler(), Consumer()
    lanes = lanes_with(handler, consumer)
    lanes.assign([HERE])
    await eventually(lambda: make_seeks(lanes))
    lane = lanes.here[HERE]
    lane.start()
    lanes.gather(HERE, [record(10, 1), record(11, 1)])
    handler.session.may_end.set()
    await eventually(lambda: lane.done_offset == 12)
    handler.session.fences, handler.is_away = True, True
    lanes.gather(HERE, [record(12, 1), record(13, 1)])
    consumer.end = consumer.position = 14
    fenced = {"topic": TOPIC}
    before = REGISTRY.get_sample_value("darkroom_lanes_fenced_total", fenced) or 0.0
    await eventually(lambda: not lane.positioned)
    assert REGISTRY.get_sample_value("darkroom_lanes_fenced_total", fenced) == before + 1
    assert (await refreshed(lanes, consumer))[0] == 2
    await lanes.revoke([HERE], 1.0)


async def test_while_kafka_is_away_the_last_known_end_is_shown() -> None:
    handler, consumer = Handler(), Consumer()
    lanes = lanes_with(handler, consumer)
    lanes.assign([HERE])
    await eventually(lambda: make_seeks(lanes))
    consumer.end = 13
    lag = Lag("testing", lanes, consumer.ask_ends, "test.")
    await lag.refresh()
    assert shown() == (3, 0)
    consumer.is_away, lag._seldom._asked_at = True, float("-inf")
    await lag.refresh()
    assert shown() == (3, 0)
    await lanes.revoke([HERE], 1.0)
