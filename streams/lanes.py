"""Lanes: partitions on their way through this worker, in batches instead of messages.

Records are gathered from the Kafka client as soon as they arrive and folded into batches as late as the handler
is free, so batches are as small as the load allows and as large as it needs. Each lane has a task of its own, so
partitions go side by side.

Rules:
 1. A lane is positioned by its session (for a delivery step: by Postgres), never by Kafka's committed offset.
 2. Seeks are made by the task that fetches, between two fetches, so no stale record can follow a seek. Until
    its seek is made a lane drops what arrives.
 3. A lane's offset is acked when its batch is handled, and only that offset is ever committed.
 4. A revoked lane takes no new batch; the batch in hand is awaited, bounded, and then left to the fence.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import structlog

from models.errors import DarkroomError, Fenced, TopicMadeAnew, Unavailable
from models.outputs import Record
from streams.metrics import LANES_FENCED

log = structlog.get_logger()

POLL_TIMEOUT_S = 0.25
REVOCATION_GRACE_S = 5.0
RECORD_OVERHEAD_BYTES = 200
NONE_COMMITTED: Mapping[Any, int | None] = MappingProxyType({})


class TopicPartition(NamedTuple):
    """Faust's and aiokafka's TP are equal to this."""

    topic: str
    partition: int


class Fetching(Protocol):
    """What lanes need of the consumer that feeds them."""

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset that each partition's next record will get. Raises Unavailable."""

    def on_buffer_full(self, tp: TopicPartition) -> None:
        """Stop fetching from this partition."""

    def on_buffer_drop(self, tp: TopicPartition) -> None:
        """Fetch from this partition again."""

    def position_of(self, tp: TopicPartition) -> int | None:
        """The offset that will be fetched next; None when it is not known. Asks nobody."""


class LaneSession(Protocol):
    """One ownership of one partition: its state lives and dies with it."""

    position: int | None
    """The offset to read from; None leaves that to Kafka's committed offset."""
    alive_at: float
    """When the session last showed that it is not stuck, by the monotonic clock."""

    async def handle(self, records: list[Record]) -> int:
        """Handle a batch completely and return the offset that follows it.

        Raises Fenced: the position is not ours any more, open again. Any other error stops the worker.
        """

    def close(self) -> None:
        """The partition is not ours any more: end as soon as it is safe, without finishing what waits."""


class LaneHandler(Protocol):
    """What a topic's records are for."""

    async def open(self, partition: int, end_offset: int) -> LaneSession:
        """Make ready for the partition, whose next record will get `end_offset`.

        Raises Unavailable: try again later. Any other error stops the worker.
        """


class Lane:
    """One partition's buffer, position and task."""

    def __init__(self, tp: TopicPartition, handler: LaneHandler, lanes: Lanes) -> None:
        self.tp = tp
        self.handler = handler
        self.done_offset: int | None = None
        self.busy_since: float | None = None
        self.positioned = False
        self.open = True
        self.size_bytes = 0
        self.committed = 0
        """Kafka's committed offset when the lane began; 0 when there was none."""
        self.closed_since = time.monotonic()
        """Since when the lane has not been positioned, by the monotonic clock; of no meaning while it is."""
        self._lanes = lanes
        self._in_hand: list[Record] = []
        self._records: deque[Record] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._session: LaneSession | None = None

    @property
    def begun(self) -> bool:
        """Whether a session has been opened for this lane."""
        return self._session is not None

    @property
    def started(self) -> bool:
        """Whether the agent has taken this lane on."""
        return self._task is not None

    @property
    def oldest(self) -> Record | None:
        """The first record that has come and is not handled."""
        return self._in_hand[0] if self._in_hand else self._records[0] if self._records else None

    @property
    def waiting(self) -> int:
        """How many records have come and are not handled."""
        return len(self._in_hand) + len(self._records)

    def gather(self, records: Sequence[Record]) -> None:
        """Take records from the client; those that arrive before the lane's seek are not ours to handle."""
        if not (self.open and self.positioned):
            return
        self._records.extend(records)
        self.size_bytes += _size_bytes(records)
        self._arrived.set()

    def start(self) -> None:
        """Begin to handle what is gathered. Called by the agent; more than once does nothing."""
        if self._task is None and self.open:
            self._task = asyncio.create_task(self._run(), name=f"lane {self.tp.topic}/{self.tp.partition}")

    def begin(self, session: LaneSession) -> None:
        """Work for the given session from now on; nothing is gathered before its seek is made."""
        self._session = session

    def clear(self) -> None:
        """Drop what is gathered and gather nothing until positioned again."""
        self.positioned = False
        self.closed_since = time.monotonic()
        self._session = None
        self._records.clear()
        self.size_bytes = 0
        self._lanes.release(self.tp)

    def close(self) -> None:
        """Take no further batch."""
        self.open = False
        if self._session is not None:
            self._session.close()
        self.clear()
        self._arrived.set()

    def stuck_s(self) -> float:
        """For how long the batch in hand has shown no sign of life; 0 when there is none."""
        since, session = self.busy_since, self._session
        if since is None:
            return 0.0
        return time.monotonic() - max(since, session.alive_at if session is not None else since)

    async def drained(self, timeout_s: float) -> bool:
        """Wait for the batch in hand; whether it ended in time."""
        if self._task is None:
            return True
        done, _ = await asyncio.wait({self._task}, timeout=timeout_s)
        return bool(done)

    def _take(self, records_max: int) -> list[Record]:
        held = len(self._records)
        records = [self._records.popleft() for _ in range(min(records_max, held))]
        if records:
            # Their share of what is held: near enough for a bound, exact when all are taken, and nothing to add up.
            self.size_bytes -= self.size_bytes * len(records) // held
        return records

    async def _run(self) -> None:
        try:
            while self.open:
                records = self._take(self._lanes.records_max)
                if not records:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                self._lanes.on_taken(self)
                await self._handle(records)
        except Exception as error:
            self._lanes.fail(error)

    async def _handle(self, records: list[Record]) -> None:
        assert self._session is not None
        self.busy_since = time.monotonic()
        self._in_hand = records
        try:
            self.done_offset = await self._session.handle(records)
        except Fenced as fenced:
            LANES_FENCED.labels(self._lanes.name_of(self.tp.topic)).inc()
            log.info("lane fenced", topic=self.tp.topic, partition=self.tp.partition, why=str(fenced))
            self.clear()
            if self.open:
                self._lanes.position([self])
        finally:
            self.busy_since = None
            self._in_hand = []


class Lanes:
    """The lanes of one worker: which topics have handlers, which partitions are here."""

    def __init__(self, *, records_max: int, bytes_max: int, topic_prefix: str = "") -> None:
        self.records_max = records_max
        self.bytes_max = bytes_max
        self._prefix = topic_prefix
        self.handlers: dict[str, LaneHandler] = {}
        self.here: dict[TopicPartition, Lane] = {}
        self.failure: BaseException | None = None
        self.on_failure: Callable[[BaseException], None] = lambda error: None
        self._positioning: set[asyncio.Task[None]] = set()
        self._seeks: dict[TopicPartition, tuple[Lane, int]] = {}
        self._full: set[TopicPartition] = set()
        self._assigned = False
        self._consumer: Fetching | None = None

    def add(self, topic: str, handler: LaneHandler) -> None:
        """Give a topic's partitions to a handler."""
        self.handlers[topic] = handler

    def attach(self, consumer: Fetching) -> None:
        """Know the consumer that fetches for these lanes."""
        self._consumer = consumer

    def ready(self) -> bool:
        """Whether an assignment has come and all its lanes are positioned."""
        return self._assigned and all(lane.positioned for lane in self.here.values())

    def name_of(self, topic: str) -> str:
        """The topic's name in the registry."""
        return topic.removeprefix(self._prefix)

    def position_of(self, tp: TopicPartition) -> int | None:
        """The offset that the consumer will fetch next, as far as is known."""
        return None if self._consumer is None else self._consumer.position_of(tp)

    def assign(
        self, partitions: Iterable[TopicPartition], committed: Mapping[TopicPartition, int | None] = NONE_COMMITTED
    ) -> None:
        """Make lanes for these partitions, closing any that stood there, and begin to position them.

        `committed` holds Kafka's committed offsets, for measuring alone.
        """
        self._assigned = True
        lanes = []
        for tp in partitions:
            stood = self.here.pop(tp, None)
            if stood is not None:
                stood.close()
            self._seeks.pop(tp, None)
            lane = self.here[tp] = Lane(tp, self.handlers[tp.topic], self)
            lane.committed = committed.get(tp) or 0
            lanes.append(lane)
        log.info("lanes assigned", lanes=_names(lanes))
        self.position(lanes)

    async def revoke(self, partitions: Iterable[TopicPartition], grace_s: float) -> dict[TopicPartition, int]:
        """Close these lanes and wait for the batches in hand. Returns the offsets that may be committed."""
        lanes = [lane for tp in partitions if (lane := self.here.pop(tp, None)) is not None]
        for lane in lanes:
            lane.close()
            self._seeks.pop(lane.tp, None)
        drained = await asyncio.gather(*(lane.drained(grace_s) for lane in lanes))
        log.info("lanes left", lanes=_names(lanes))
        for lane, ended in zip(lanes, drained, strict=True):
            if not ended:
                log.warning("lane still busy", topic=lane.tp.topic, partition=lane.tp.partition, waited_s=grace_s)
        return {lane.tp: lane.done_offset for lane in lanes if lane.done_offset is not None}

    def position(self, lanes: Sequence[Lane]) -> None:
        """Ask these lanes' handlers where to read from, for as long as it takes."""
        task = asyncio.create_task(self._position(lanes), name="position lanes")
        self._positioning.add(task)
        task.add_done_callback(self._positioning.discard)

    async def _position(self, lanes: Sequence[Lane]) -> None:
        assert self._consumer is not None
        wait_s = 0.1
        while self.failure is None and (waiting := [lane for lane in lanes if lane.open and not lane.begun]):
            try:
                ends = await self._consumer.end_offsets([lane.tp for lane in waiting])
                async with asyncio.TaskGroup() as group:
                    for lane in waiting:
                        group.create_task(self._open(lane, ends[lane.tp]))
            except* Unavailable as errors:
                log.warning("lanes wait", lanes=len(waiting), why=str(errors.exceptions[0]), wait_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(2.0, wait_s * 2)
            except* Exception as errors:
                self.fail(errors.exceptions[0])

    async def _open(self, lane: Lane, end_offset: int) -> None:
        session = await self._opened(lane, end_offset)
        if not lane.open:
            return
        lane.begin(session)
        if session.position is None:
            lane.positioned = True
        else:
            self._seeks[lane.tp] = (lane, session.position)

    async def _opened(self, lane: Lane, end_offset: int) -> LaneSession:
        """The handler's session. An owner who has not left yet may have handled what came after the end was asked for:
        a topic is made anew only if it also ends too early when asked again."""
        assert self._consumer is not None
        while True:
            try:
                return await lane.handler.open(lane.tp.partition, end_offset)
            except TopicMadeAnew as error:
                end_offset = (await self._consumer.end_offsets([lane.tp]))[lane.tp]
                if error.next_offset is None or end_offset < error.next_offset:
                    raise

    async def make_seeks(self, seek: Callable[[Mapping[TopicPartition, int]], Awaitable[set[TopicPartition]]]) -> None:
        """Carry out the seeks that are due; `seek` returns those it made. Only the fetching task calls this."""
        if not self._seeks:
            return
        seeks, self._seeks = self._seeks, {}
        for tp in await seek({tp: offset for tp, (_, offset) in seeks.items()}):
            lane, offset = seeks[tp]
            # While the seek was made the partition may have got a new lane, or the lane another place to go to.
            if self.here.get(tp) is lane and lane.begun and tp not in self._seeks:
                lane.positioned = True
                log.debug("lane positioned", topic=tp.topic, partition=tp.partition, offset=offset)

    def gather(self, tp: TopicPartition, records: list[Record]) -> Lane | None:
        """Give fetched records to their lane; returns the lane if the agent has not seen it yet."""
        lane = self.here.get(tp)
        if lane is None:
            return None
        lane.gather(records)
        if lane.size_bytes > self.bytes_max and tp not in self._full and self._consumer is not None:
            self._full.add(tp)
            self._consumer.on_buffer_full(tp)
        return None if lane.started else lane

    def on_taken(self, lane: Lane) -> None:
        """A batch has left the buffer: fetch again if it had been full."""
        if lane.size_bytes < self.bytes_max // 2:
            self.release(lane.tp)

    def release(self, tp: TopicPartition) -> None:
        """Fetch from a partition again whose lane had been full; a lane that is emptied must not stay paused."""
        if tp in self._full:
            self._full.discard(tp)
            if self._consumer is not None:
                self._consumer.on_buffer_drop(tp)

    def longest_stuck_s(self) -> float:
        """For how long the slowest batch in hand has shown no sign of life."""
        return max((lane.stuck_s() for lane in list(self.here.values())), default=0.0)

    def fail(self, error: BaseException) -> None:
        """Something unplanned: nothing is acked any more and the worker stops."""
        if self.failure is not None:
            return
        self.failure = error
        if isinstance(error, DarkroomError):
            log.error("worker stops", code=error.code, why=str(error))
        else:
            log.error("worker stops", why=repr(error), exc_info=error)
        self.on_failure(error)


def _size_bytes(records: Sequence[Record]) -> int:
    """What records hold of memory. Headers count: a foreign producer's may be larger than any value."""
    size = RECORD_OVERHEAD_BYTES * len(records)
    for record in records:
        size += len(record.value or b"") + len(record.key or b"")
        if record.headers:
            size += sum(len(name) + len(value or b"") for name, value in record.headers)
    return size


def _names(lanes: Iterable[Lane]) -> str:
    partitions: dict[str, list[int]] = {}
    for lane in lanes:
        partitions.setdefault(lane.tp.topic, []).append(lane.tp.partition)
    return " ".join(f"{topic}{sorted(numbers)}" for topic, numbers in sorted(partitions.items()))
