"""One reader of what becomes of requests, for everybody in a process who waits for it.

Reads:      generations.admitted.v1, generations.rejected.v1, generations.completed.v1, generations.failed.v1
Guarantees: a decision reaches whoever waits for it, whichever worker made it. Followers get every event from the
            offsets they name on, once, or are told that they were too slow.
Fails:      while Kafka is away nothing comes; reading goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from models.errors import DarkroomError, Unavailable
from models.event_log import EventLog
from models.following import EventFilter, FollowedEvent, followed_event
from models.positions import FOLLOWED, text_of
from models.topics import REQUESTED
from streams.partitioning import remembered_partition_of
from streams.reading import Reader
from streams.settings import Settings

log = structlog.get_logger()

READ_S = 1.0
RETRY_S = 0.5
BEFORE_END_RECORDS = 1_000
"""What is read again when a process begins: to know copies of what was sent shortly before, and late refusals."""

Listener = Callable[[FollowedEvent], None]


class EventHub:
    """The reader. `run` reads until it is cancelled; everything else answers from what has been read."""

    def __init__(self, settings: Settings, on_trouble: Callable[[DarkroomError], None] | None = None) -> None:
        """`on_trouble` is told why events cannot be read; by default it is logged."""
        self._on_trouble = on_trouble or _log_trouble
        self.log = EventLog()
        self.partitions = 0
        self._settings = settings
        self._positioned = asyncio.Event()
        self._positions: dict[int | None, str] = {}
        self._everybodys: set[Listener] = set()
        self._of_users: defaultdict[str, set[Listener]] = defaultdict(set)
        self._waiting: defaultdict[tuple[str, str], set[Listener]] = defaultdict(set)

    @property
    def is_positioned(self) -> bool:
        """Whether reading has begun: an event that comes from now on will be seen."""
        return self._positioned.is_set()

    async def positioned(self, timeout_s: float) -> None:
        """Wait until reading has begun. Raises Unavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._positioned.wait()
        except TimeoutError:
            raise Unavailable("Kafka", "the events cannot be read yet") from None

    async def run(self) -> None:
        """Read for ever; a broken connection is made anew."""
        while True:
            try:
                await self._read()
            except DarkroomError as error:
                self._on_trouble(error)
            except asyncio.CancelledError:
                # With the broker away, aiokafka lets out the cancellation of its own tasks; only one asked of us ends.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._on_trouble(Unavailable("Kafka", "the driver gave up"))
            except Exception as error:
                # Whatever it is, a process that reads no more would leave everybody waiting without a word.
                log.error("reading events broke", why=repr(error), exc_info=error)
            await asyncio.sleep(RETRY_S)

    async def _read(self) -> None:
        async with Reader(self._settings, FOLLOWED) as reader:
            self.partitions = await reader.partitions()
            if self.log.offsets:
                await reader.start_at(self.log.offsets)
            else:
                ends_before = await reader.start_before_end(BEFORE_END_RECORDS)
                self.log.begin(ends_before)
                ends = await reader.end_offsets()
                while await reader.behind(ends):
                    self._take_all(await reader.read(READ_S))
            self._positioned.set()
            while True:
                self._take_all(await reader.read(READ_S))

    def _take_all(self, records: list[tuple[str, Any]]) -> None:
        for topic, record in records:
            self._positions.clear()
            event = followed_event(topic, record)
            if event is None:
                self.log.skip(topic, record.partition, record.offset)
                continue
            is_new = self.log.add(event)
            for listener in tuple(self._waiting.get((event.user_id, event.request_id), ())):
                listener(event)
            if is_new:
                for listener in (*self._everybodys, *self._of_users.get(event.user_id, ())):
                    listener(event)

    def partition_of(self, user_id: str) -> int:
        """Where a user's events are. Only after `positioned`."""
        return remembered_partition_of(user_id, self.partitions)

    def offsets(self, partition: int | None) -> dict[tuple[str, int], int]:
        """Where reading stands, in all partitions or in one."""
        return {
            place: offset for place, offset in self.log.offsets.items() if partition is None or place[1] == partition
        }

    def position(self, partition: int | None) -> str:
        """The text of where reading stands; made once for all who listen to the same event."""
        text = self._positions.get(partition)
        if text is None:
            text = self._positions[partition] = text_of(self.log.offsets, self.partitions, partition)
        return text

    @contextlib.contextmanager
    def listening(self, wanted: EventFilter, listener: Listener) -> Any:
        """Call the listener with every new event that is wanted, at once and in order; it must not wait."""

        def filtered(event: FollowedEvent) -> None:
            if wanted.wants(event):
                listener(event)

        listeners = self._everybodys if wanted.user_id is None else self._of_users[wanted.user_id]
        listeners.add(filtered)
        try:
            yield
        finally:
            listeners.discard(filtered)
            if wanted.user_id is not None and not listeners:
                self._of_users.pop(wanted.user_id, None)

    @asynccontextmanager
    async def awaiting(self, user_id: str, request_id: str) -> AsyncIterator[asyncio.Queue[FollowedEvent]]:
        """Everything that comes about one request, copies too. Begin before it is sent, or a fast answer is missed."""
        events: asyncio.Queue[FollowedEvent] = asyncio.Queue()
        listeners = self._waiting[user_id, request_id]
        listeners.add(events.put_nowait)
        try:
            yield events
        finally:
            listeners.discard(events.put_nowait)
            if not listeners:
                self._waiting.pop((user_id, request_id), None)

    def recent(self, user_id: str, request_id: str) -> dict[str, Any] | None:
        """The latest about a request that has no row, with its `type`: the body of its refusal, or, for one that was
        sent from here and is undecided, what it asked for. None if it is not among the latest of all."""
        event = self.log.rejection(user_id, request_id)
        if event is not None:
            return {"type": event.topic, **event.body}
        operation = self.log.asked(user_id, request_id)
        if operation is None:
            return None
        return {"type": REQUESTED, "user_id": user_id, "request_id": request_id, "operation": operation}


def _log_trouble(error: DarkroomError) -> None:
    log.warning("events cannot be read", why=str(error))
