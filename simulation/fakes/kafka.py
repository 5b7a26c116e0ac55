"""Kafka in memory: partitioned logs with offsets and the broker's append time, and a producer of aiokafka's shape."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError

from models.outputs import Header
from simulation.net import Process
from streams.lanes import TopicPartition
from streams.partitioning import partition_of

BASE_MS = 1_750_000_000_000
BATCH_BYTES_MAX = 1 << 20


class Kept(NamedTuple):
    """A record in a log. `at_s` is when it really came, which no production code can see."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    at_s: float = 0.0


class Broker:
    """All topics. Each partition's leader has a clock of its own, which may step."""

    def __init__(self, partitions: int, dice: random.Random) -> None:
        self.partitions = partitions
        self.dice = dice
        self.is_away = False
        self.skew_ms: dict[int, int] = {}
        self.losses: list[str] = []
        """What goes wrong with the next sends, one each: `all` arrives or `none`, or `some`, without an ack."""
        self.committed: dict[TopicPartition, int] = {}
        """What a consumer group has committed, by topic and partition."""
        self.on_append: Callable[[Kept], None] = lambda record: None
        self._logs: dict[tuple[str, int], list[Kept]] = {}
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}

    def log(self, topic: str, partition: int) -> list[Kept]:
        """The partition's records, by offset."""
        return self._logs.setdefault((topic, partition), [])

    def home_of(self, key: str) -> int:
        """The partition of a key."""
        return partition_of(key, self.partitions)

    def logs(self) -> list[list[Kept]]:
        """All logs."""
        return list(self._logs.values())

    def topic(self, topic: str) -> list[Kept]:
        """All records of a topic, partition by partition."""
        return [record for number in range(self.partitions) for record in self.log(topic, number)]

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
    ) -> Kept:
        """Append one record at the leader's time."""
        log = self.log(topic, partition)
        now_s = asyncio.get_running_loop().time()
        timestamp = BASE_MS + int(now_s * 1000) + self.skew_ms.get(partition, 0)
        record = Kept(topic, partition, len(log), timestamp, key, value, tuple(headers), now_s)
        log.append(record)
        self.on_append(record)
        for watcher in self._watchers.pop(topic, ()):
            _wake(watcher)
        return record

    async def appended(self, topics: Iterable[str], timeout_s: float) -> None:
        """Wait until something is appended to one of these topics, or for that long."""
        loop = asyncio.get_running_loop()
        watcher: asyncio.Future[None] = loop.create_future()
        for topic in topics:
            self._watchers.setdefault(topic, []).append(watcher)
        timer = loop.call_later(timeout_s, _wake, watcher)
        try:
            await watcher
        finally:
            timer.cancel()


def _wake(watcher: asyncio.Future[None]) -> None:
    if not watcher.done():
        watcher.set_result(None)


class _Metadata(NamedTuple):
    partition: int
    offset: int
    timestamp: int


class Batch:
    """What `create_batch` returns."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes | None, bytes | None, list[Header]]] = []
        self._size_bytes = 0

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: int | None, headers: Sequence[Header] = ()
    ) -> object | None:
        """None when the batch is full."""
        size_bytes = len(key or b"") + len(value or b"") + 70 + sum(len(n) + len(v or b"") for n, v in headers)
        if self.rows and self._size_bytes + size_bytes > BATCH_BYTES_MAX:
            return None
        self._size_bytes += size_bytes
        self.rows.append((key, value, list(headers)))
        return self

    def close(self) -> None:
        """No more rows."""


class FakeProducer:
    """The parts of AIOKafkaProducer that the publisher uses."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process

    async def partitions_for(self, topic: str) -> set[int]:
        """The topic's partitions."""
        return set(range(self._broker.partitions))

    def create_batch(self) -> Batch:
        """An empty batch."""
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """Begin to send; the future is the ack."""
        return asyncio.ensure_future(self._send(topic, partition, batch.rows))

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Sequence[Header]
    ) -> asyncio.Future[Any]:
        """Begin to send to the key's partition."""
        place = partition_of((key or b"").decode(), self._broker.partitions)
        return asyncio.ensure_future(self._send(topic, place, [(key, value, list(headers))]))

    async def send_and_wait(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Sequence[Header]
    ) -> Any:
        """Send and wait for the ack."""
        return await (await self.send(topic, value, key=key, headers=headers))

    async def stop(self) -> None:
        """Nothing is held."""

    async def _send(
        self, topic: str, partition: int, rows: Sequence[tuple[bytes | None, bytes | None, list[Header]]]
    ) -> _Metadata:
        broker = self._broker
        await self._process.hop()
        if broker.is_away:
            raise KafkaConnectionError("the broker is away")
        loss = broker.losses.pop(0) if broker.losses else None
        if loss == "none":
            raise KafkaError("lost on the way")
        # A batch is appended whole or not at all; several batches of one step may share a fate or not.
        first: Kept | None = None
        for key, value, headers in rows:
            kept = broker.append(topic, partition, key, value, headers)
            first = first or kept
        await self._process.hop()
        if loss is not None or broker.is_away:
            raise RequestTimedOutError("the answer was lost")
        assert first is not None
        return _Metadata(partition, first.offset, first.timestamp)
