"""The lane transport: Faust's aiokafka driver feeding lanes (streams/lanes.py) instead of single messages.

The agent's stream carries one event per lane, not one per record: the agent starts the lane, and from there the
lane's own task hands batch after batch to its session. Faust keeps what it is good at: membership, rebalances,
agents, supervision and the worker's life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka.structs import TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP

from models.errors import Unavailable
from streams.lanes import Lane, Lanes

POLL_TIMEOUT_S = 0.25
REVOCATION_GRACE_S = 4.0
END_OFFSET_TIMEOUT_S = 10.0


class LaneToken:
    """What Faust sees of a lane: a record whose value is the lane itself."""

    def __init__(self, lane: Lane, first: Any) -> None:
        self.topic = lane.tp.topic
        self.partition = lane.tp.partition
        self.offset = first.offset
        self.timestamp = first.timestamp
        self.timestamp_type = first.timestamp_type
        self.headers = ()
        self.key = None
        self.value = lane
        self.checksum = None
        self.serialized_key_size = 0
        self.serialized_value_size = 0


class LaneScheduler(DefaultSchedulingStrategy):
    """Gathers lane records at once and lets one token per unseen lane through; other topics pass as they are."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        """Runs at the first `next()`, which Faust calls only while its flow is active."""
        passing: dict[TP, list[Any]] = {}
        for tp, fetched in records.items():
            if tp.topic not in self._lanes.handlers:
                passing[tp] = fetched
            elif fetched:
                unseen = self._lanes.gather(tp, fetched)
                if unseen is not None:
                    passing[tp] = [LaneToken(unseen, fetched[0])]
        yield from self.records_iterator(self.map_from_records(passing))


class LaneConsumerThread(AIOKafkaConsumerThread):
    """Reads committed records only: what a producer's transaction took back is not a request."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust asks for this only when it runs transactions itself; the fetcher reads it when it starts.
        consumer._isolation_level = "read_committed"
        return consumer


class LaneConsumer(Consumer):
    """Faust's consumer with the lanes' own positions and offsets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lanes: Lanes = self.app.lanes
        self.lanes.attach(self)

    def _new_consumer_thread(self) -> LaneConsumerThread:
        return LaneConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def end_offsets(self, partitions: Sequence[TP]) -> Mapping[TP, int]:
        """The offset that each partition's next record will get. Raises Unavailable."""
        try:
            ends = await asyncio.wait_for(self._thread.highwaters(*partitions), timeout=END_OFFSET_TIMEOUT_S)
        except Exception as error:
            raise Unavailable("Kafka", repr(error)) from error
        return {TP(tp.topic, tp.partition): int(offset) for tp, offset in ends.items()}

    def position_of(self, tp: TP) -> int | None:
        """The offset that will be fetched next: a number of the thread's, read as it is and never waited for."""
        subscription = getattr(self._thread._consumer, "_subscription", None)
        assignment = getattr(getattr(subscription, "subscription", None), "assignment", None)
        state = assignment.state_value(TopicPartition(tp.topic, tp.partition)) if assignment is not None else None
        return int(state.position) if state is not None and state.has_valid_position else None

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        """Called when an assignment begins. Lanes begin anew here, unpositioned."""
        committed = dict(await super().seek_to_committed())
        lane_partitions = [tp for tp in self.assignment() if tp.topic in self.lanes.handlers]
        self.lanes.assign(lane_partitions, committed)
        # Faust drops what lies below a partition's read offset; a lane's token must never be dropped.
        for tp in lane_partitions:
            committed[tp] = None
        return committed

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        await self.lanes.make_seeks(self._seek_all)
        return await super()._getmany(active_partitions, min(timeout, POLL_TIMEOUT_S))

    async def _seek_all(self, offsets: Mapping[TP, int]) -> set[TP]:
        consumer = self._thread._ensure_consumer()

        async def seek() -> set[TP]:
            made = set()
            assigned = consumer.assignment()
            for tp, offset in offsets.items():
                partition = TopicPartition(tp.topic, tp.partition)
                # A partition that is not ours any more will get a new lane if it comes back.
                if partition in assigned:
                    consumer.seek(partition, offset)
                    made.add(tp)
            return made

        made: set[TP] = await self._thread.call_thread(seek)
        return made

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the batches in hand end, commit what they acked, then let Faust proceed."""
        await self._leave(revoked)
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """TERM: the same as a revocation of everything."""
        await self._leave(list(self.lanes.here))
        await super().on_stop()

    async def _leave(self, partitions: Iterable[TP]) -> None:
        offsets = await self.lanes.revoke(list(partitions), REVOCATION_GRACE_S)
        behind = {tp: offset for tp, offset in offsets.items() if self._should_commit(tp, offset)}
        if behind:
            await self._commit_offsets(behind)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in list(self.lanes.here):
            if topics is None or tp in topics or tp.topic in topics:
                yield tp
        for tp in super()._filter_tps_with_pending_acks(topics):
            if tp.topic not in self.lanes.handlers:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self.lanes.handlers:
            offset: int | None = super()._new_offset(tp)
            return offset
        lane = self.lanes.here.get(tp)
        return lane.done_offset if lane is not None else None

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust looks for events that are not acked; lanes have a watchdog of their own."""
        if tp.topic not in self.lanes.handlers:
            super().verify_event_path(now, tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Folded records are not gaps: the stock bookkeeping would commit over records still in the lane."""
        if tp.topic not in self.lanes.handlers:
            await super()._add_gap(tp, offset_from, offset_to)


class LaneTransport(Transport):
    """`broker='lane://host:port'`"""

    Consumer = LaneConsumer
