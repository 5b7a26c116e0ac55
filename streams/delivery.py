"""The delivery step: effects once, under at-least-once delivery.

A step handles one batch of one partition of one stream:

 1. Begin a transaction; lock the progress row: the first statement, always. If it is not where our session
    left it, another worker was here: roll back, drop the state, open again (Fenced).
 2. Read what deciding needs, decide by a pure function, write the effects.
 3. Write the progress row with the batch's decisions, packed, and commit.
 4. Render the outputs from records and decisions, publish them, wait for the acks. Only then is the offset acked.

After a crash between 3 and 4 the records come again; those in [prev_offset, next_offset) are not decided again but
rendered from the stored decisions and published again, with the same event ids. A batch is published before the
next one commits, so one row per partition is enough.

While Postgres or Kafka is away the step is tried again with backoff and Kafka holds the queue. A record that
breaks a decision is found by trying its batch record by record, and goes to the dead letters in the same step.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import asyncpg
import msgspec
import structlog

from adapters.postgres import Connection, Pool, connection, transaction
from adapters.progress import Progress, lock_progress, read_progress, write_progress
from models.errors import Fenced, TopicMadeAnew, Unavailable
from models.outputs import Output, Record, check_sizes
from models.requests import Unreadable
from streams.afterwards import UNHEARD, Afterwards
from streams.crash_points import crash_point
from streams.metrics import STEP_REPLAYED, STEP_RETRIES
from streams.publisher import Publisher

log = structlog.get_logger()

T = TypeVar("T")

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
BROKEN_IN_A_ROW_MAX = 100
"""More than this is no poison but a bug of ours: the worker stops instead of burying good records."""
NOT_THE_RECORD = (asyncpg.SyntaxOrAccessError,)
"""Errors that no record causes, such as a missing table: the worker stops instead of burying good records."""


class Batch(NamedTuple):
    """What a step decides on: records with their inputs, and where the partition stands.

    `clock_ms` is the partition's broker time before the batch; it never runs backwards.
    """

    partition: int
    records: Sequence[Record]
    inputs: Sequence[Any]
    state: Any
    clock_ms: int
    afterwards: Afterwards = UNHEARD


class Step(Protocol):
    """What one agent does with a batch. Shapes of inputs, state and decisions are the step's own."""

    stream: str
    """The name of its progress rows."""
    topic: str
    """The topic it consumes."""
    decision_type: Any
    """The union of its decisions, as msgspec packs it."""

    def read(self, record: Record) -> Any:
        """The record's content, or Unreadable. Pure; never raises."""

    async def load(self, connection: Connection, partition: int, clock_ms: int) -> Any:
        """The partition's state as a function of committed rows."""

    async def apply(self, connection: Connection, batch: Batch) -> tuple[Sequence[Any], int]:
        """Decide the batch and write its effects in the open transaction: (a decision per record, new clock_ms)."""

    def render(self, records: Sequence[Record], inputs: Sequence[Any], decisions: Sequence[Any]) -> list[Output]:
        """The outputs of these decisions. Pure: the same again after a crash."""


class _Packed(msgspec.Struct, array_like=True):
    """Decisions as stored: each record's distance from prev_offset and its decision, still encoded.

    `first_ms` and `last_ms` are the broker's times of the batch's first and last record: a topic that was made anew
    has other records at their offsets.
    """

    distances: list[int]
    decisions: msgspec.Raw
    first_ms: int = 0
    last_ms: int = 0


class Delivery:
    """Makes a Step's effects happen once. One for each step in a worker."""

    def __init__(
        self,
        step: Step,
        pool: Pool,
        publisher: Publisher,
        *,
        on_step: Callable[[str, int, float], None] = lambda stream, records, seconds: None,
    ) -> None:
        self.step = step
        self.pool = pool
        self.publisher = publisher
        self.on_step = on_step
        self.decisions_decoder = msgspec.msgpack.Decoder(list[step.decision_type])  # type: ignore[name-defined]

    async def open(self, partition: int, end_offset: int) -> DeliverySession:
        """Load the partition's progress and state.

        Raises Unavailable; TopicMadeAnew when the topic ends before what was handled.
        """
        async with connection(self.pool) as held:
            progress = await read_progress(held, self.step.stream, partition)
            if end_offset < progress.next_offset:
                raise self.made_anew(
                    partition,
                    f"ends at {end_offset} but {progress.next_offset} records of it were handled",
                    progress.next_offset,
                )
            state = await self.step.load(held, partition, progress.clock_ms)
        log.info("partition opened", stream=self.step.stream, partition=partition, next_offset=progress.next_offset)
        return DeliverySession(self, partition, progress, state)

    def made_anew(self, partition: int, seen: str, next_offset: int | None = None) -> TopicMadeAnew:
        """The error that says what was seen and what to do."""
        return TopicMadeAnew(
            f"{self.step.topic}/{partition} {seen}: the topic was made anew. Restore it, or, if its old records are"
            f" gone for good, delete the row ('{self.step.stream}', {partition}) from stream_progress and start again",
            next_offset,
        )


class DeliverySession:
    """One ownership of one partition of the step's topic."""

    def __init__(self, delivery: Delivery, partition: int, progress: Progress, state: Any) -> None:
        self._delivery = delivery
        self._step = delivery.step
        self._partition = partition
        self._state = state
        self._next_offset = progress.next_offset
        self._clock_ms = progress.clock_ms
        self._stored, self._times_ms = self._unpack(progress)
        self._broken_in_a_row = 0
        self._closed = False
        self._afterwards: Afterwards = UNHEARD
        self.position: int | None = progress.prev_offset
        self.alive_at = time.monotonic()

    def close(self) -> None:
        """Give up at the next wait: whatever is left undone here is the next owner's to do again."""
        self._closed = True

    async def handle(self, records: list[Record]) -> int:
        """Replay what is decided, decide what is new. Returns the offset that follows the batch.

        Raises Fenced; TopicMadeAnew when the records that were handled are not those at their offsets.
        """
        fresh = records
        if records[0].offset < self._next_offset:
            again = [record for record in records if record.offset < self._next_offset]
            fresh = records[len(again) :]
            await self._replay(again)
        if fresh:
            began = time.monotonic()
            await self._decide_and_publish(fresh)
            self._delivery.on_step(self._step.stream, len(fresh), time.monotonic() - began)
        return self._next_offset

    async def _replay(self, records: Sequence[Record]) -> None:
        for record in records:
            if self._times_ms.get(record.offset, record.timestamp) != record.timestamp:
                raise self._delivery.made_anew(
                    self._partition, f"has another record at offset {record.offset} than the one that was handled"
                )
        decided = [record for record in records if record.offset in self._stored]
        inputs = self._read_all(decided)
        decisions = [self._stored[record.offset] for record in decided]
        await self._publish(self._step.render(decided, inputs, decisions))
        STEP_REPLAYED.labels(self._step.stream).inc(len(decided))
        log.info("outputs published again", stream=self._step.stream, partition=self._partition, records=len(decided))

    async def _decide_and_publish(self, records: Sequence[Record], *, tried_again: bool = False) -> None:
        if self._closed:
            raise Fenced("the partition was revoked")
        inputs = self._read_all(records)
        try:
            outputs = await self._tried(lambda: self._decide(records, inputs), "step waits")
        except (Fenced, asyncio.CancelledError):
            raise
        except Exception as error:
            await self._isolate(records, inputs, error, tried_again)
            return
        self._broken_in_a_row = 0
        await self._publish(outputs)
        self._tell(self._afterwards.published)
        crash_point(self._step.stream, 4)  # outputs are out, the offset is not acked: they are published again
        self._stored = {}

    async def _isolate(
        self, records: Sequence[Record], inputs: Sequence[Any], error: Exception, tried_again: bool
    ) -> None:
        """A decision broke. Go on in halves until the record that breaks it stands alone; that one is dead."""
        if isinstance(error, NOT_THE_RECORD) or self._broken_in_a_row >= BROKEN_IN_A_ROW_MAX:
            raise error
        if len(records) > 1:
            half = len(records) // 2
            await self._decide_and_publish(records[:half])
            await self._decide_and_publish(records[half:])
            return
        record = records[0]
        if not tried_again:
            # Another partition may have been first, with the same grant id, say: deciding again sees what it wrote.
            await self._decide_and_publish(records, tried_again=True)
            return
        log.error("decision broken", stream=self._step.stream, offset=record.offset, why=repr(error), exc_info=error)
        if isinstance(inputs[0], Unreadable):
            raise error
        self._broken_in_a_row += 1
        dead = [Unreadable("broken_decision", f"{type(error).__name__}: {error}")]
        await self._publish(await self._tried(lambda: self._decide(records, dead), "step waits"))
        self._tell(self._afterwards.published)
        self._stored = {}

    def _read_all(self, records: Sequence[Record]) -> list[Any]:
        read = self._step.read
        try:
            return [read(record) for record in records]
        except Exception:  # reading is pure: once more, to find out whose record it was
            return [self._read(record) for record in records]

    def _read(self, record: Record) -> Any:
        try:
            return self._step.read(record)
        except Exception as error:  # a bug in reading must cost one record, not the partition
            log.error("reading broken", stream=self._step.stream, offset=record.offset, exc_info=error)
            return Unreadable("broken_read", f"{type(error).__name__}: {error}")

    async def _decide(self, records: Sequence[Record], inputs: Sequence[Any]) -> list[Output]:
        step, next_offset, afterwards = self._step, records[-1].offset + 1, Afterwards()
        if self._state is None:
            await self._reload()
        try:
            async with transaction(self._delivery.pool) as held:
                found = await lock_progress(held, step.stream, self._partition)
                if found != self._next_offset:
                    raise Fenced(f"next_offset is {found}, expected {self._next_offset}")
                crash_point(step.stream, 1)  # nothing is written: the batch comes again
                batch = Batch(self._partition, records, inputs, self._state, self._clock_ms, afterwards)
                decisions, clock_ms = await step.apply(held, batch)
                # Before the commit, so that what cannot be rendered or sent is found while it can still be buried.
                outputs = step.render(records, inputs, decisions)
                check_sizes(outputs)
                await write_progress(
                    held,
                    step.stream,
                    self._partition,
                    next_offset=next_offset,
                    clock_ms=clock_ms,
                    decisions=self._pack(records, decisions),
                )
                crash_point(step.stream, 2)  # all is written, nothing is committed: the server rolls back
        except BaseException:
            self._state = None
            raise
        crash_point(step.stream, 3)  # committed, nothing is published: the stored decisions are rendered again
        self._next_offset, self._clock_ms = next_offset, clock_ms
        self._afterwards = afterwards
        self._tell(afterwards.committed)
        return outputs

    def _tell(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            try:
                call()
            except Exception as error:  # a bug in counting must not hold up what is committed
                log.error("not counted", stream=self._step.stream, why=repr(error), exc_info=error)

    async def _tried(self, attempt: Callable[[], Awaitable[T]], doing: str) -> T:
        """Try until it works; only "not available" is tried again, and only while the partition is ours."""
        for tries in itertools.count():
            # What is committed is published if it can be at once: a batch in hand ends whole.
            if self._closed and tries:
                raise Fenced("the partition was revoked")
            self.alive_at = time.monotonic()
            try:
                return await attempt()
            except Unavailable as error:
                wait_s = BACKOFF_S[min(tries, len(BACKOFF_S) - 1)]
                STEP_RETRIES.labels(self._step.stream, error.what).inc()
                log.warning(doing, stream=self._step.stream, partition=self._partition, why=str(error), wait_s=wait_s)
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _reload(self) -> None:
        """State is what is committed. A commit whose answer was lost shows here as progress: fenced, then replayed."""
        async with connection(self._delivery.pool) as held:
            progress = await read_progress(held, self._step.stream, self._partition)
            if progress.next_offset != self._next_offset:
                raise Fenced(f"next_offset is {progress.next_offset}, expected {self._next_offset}")
            self._state = await self._step.load(held, self._partition, progress.clock_ms)

    async def _publish(self, outputs: Sequence[Output]) -> None:
        await self._tried(lambda: self._delivery.publisher.publish(self._partition, outputs), "publishing waits")

    def _pack(self, records: Sequence[Record], decisions: Sequence[Any]) -> bytes:
        base = self._next_offset
        return msgspec.msgpack.encode(
            _Packed(
                [record.offset - base for record in records],
                msgspec.Raw(msgspec.msgpack.encode(decisions)),
                records[0].timestamp,
                records[-1].timestamp,
            )
        )

    def _unpack(self, progress: Progress) -> tuple[dict[int, Any], dict[int, int]]:
        """(decision by offset, broker time by offset of the records that tell this topic from another)."""
        if not progress.decisions:
            return {}, {}
        packed = msgspec.msgpack.decode(progress.decisions, type=_Packed)
        decisions = self._delivery.decisions_decoder.decode(packed.decisions)
        offsets = [progress.prev_offset + distance for distance in packed.distances]
        times_ms = {offsets[0]: packed.first_ms, offsets[-1]: packed.last_ms} if packed.first_ms else {}
        return dict(zip(offsets, decisions, strict=True)), times_ms
