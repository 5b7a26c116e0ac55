"""Reading topics without a consumer group: for people, demos and tests. Nothing is committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from models.errors import SetupFailed, Unavailable
from models.outputs import Record
from streams.settings import Settings

REQUEST_TIMEOUT_S = 10.0
RECORDS_MAX = 5000


class Reader:
    """Reads whole topics, or one partition of each, from chosen places. Topic names are without the prefix.

    Every method that asks the broker raises Unavailable.
    """

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        self._topics = {settings.topic_prefix + topic: topic for topic in topics}
        self._bootstrap = settings.require("kafka")
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="darkroom-reader",
            group_id=None,
            enable_auto_commit=False,
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            max_partition_fetch_bytes=4 << 20,
        )

    async def __aenter__(self) -> Self:
        try:
            async with _bounded():
                await self._consumer.start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def partitions(self) -> int:
        """How many partitions the topics have (all have the same).

        Raises SetupFailed: one of them is not there.
        """
        names = list(self._topics)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000))
        try:
            async with _bounded():
                await admin.start()
                described = await admin.describe_topics(names)
        finally:
            await admin.close()
        for topic in described:
            if topic["error_code"]:
                raise SetupFailed(f"the topic {topic['topic']} is missing; run `darkroom topics apply` first")
        return max(len(topic["partitions"]) for topic in described)

    async def start_at_end(self, partition: int | None = None) -> None:
        """Read what comes from now on: of all partitions, or of one."""
        await self._assign(partition)
        async with _bounded():
            ends = await self._consumer.end_offsets(self._consumer.assignment())
        self._seek(ends)

    async def start_at_beginning(self, partition: int | None = None) -> dict[TopicPartition, int]:
        """Read all that is kept; returns the offset that each partition begins with."""
        await self._assign(partition)
        async with _bounded():
            first: dict[TopicPartition, int] = await self._consumer.beginning_offsets(self._consumer.assignment())
        self._seek(first)
        return first

    async def start_at_time(self, at_ms: int, partition: int | None = None) -> None:
        """Read what was appended at this broker time or later."""
        await self._assign(partition)
        assigned = self._consumer.assignment()
        async with _bounded():
            found = await self._consumer.offsets_for_times(dict.fromkeys(assigned, at_ms))
            ends = await self._consumer.end_offsets(assigned)
        self._seek({tp: ends[tp] if found.get(tp) is None else found[tp].offset for tp in assigned})

    async def start_before_end(self, records: int) -> dict[tuple[str, int], int]:
        """Read from so many records before the end of each partition on; returns (topic, partition) -> offset."""
        await self._assign(None)
        assigned = self._consumer.assignment()
        async with _bounded():
            ends = await self._consumer.end_offsets(assigned)
            first = await self._consumer.beginning_offsets(assigned)
        offsets = {tp: max(first[tp], ends[tp] - records) for tp in assigned}
        self._seek(offsets)
        return self._named(offsets)

    async def start_at(self, offsets: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Read the partitions from these offsets on, or from their beginnings where less is kept.

        Returns the offsets that partitions begin with, all by (topic, partition).
        """
        full = {topic: name for name, topic in self._topics.items()}
        wanted = {TopicPartition(full[topic], number): offset for (topic, number), offset in offsets.items()}
        self._consumer.assign(list(wanted))
        async with _bounded():
            first = await self._consumer.beginning_offsets(list(wanted))
        self._seek({tp: max(offset, first[tp]) for tp, offset in wanted.items()})
        return self._named(first)

    async def rewind(self, topics: Iterable[str]) -> None:
        """Go back to the beginning of some of the topics."""
        wanted = set(topics)
        again = [tp for tp in self._consumer.assignment() if self._topics[tp.topic] in wanted]
        async with _bounded():
            self._seek(await self._consumer.beginning_offsets(again))

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """The offset that each assigned partition's next record will get."""
        async with _bounded():
            ends: dict[TopicPartition, int] = await self._consumer.end_offsets(self._consumer.assignment())
        return ends

    async def behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether anything below these offsets is still unread."""
        async with _bounded():
            for tp, end in ends.items():
                if await self._consumer.position(tp) < end:
                    return True
        return False

    async def read(self, timeout_s: float) -> list[tuple[str, Record]]:
        """What has come, at most `timeout_s` later, as (topic, record); empty when nothing has."""
        async with _bounded(timeout_s + REQUEST_TIMEOUT_S):
            fetched: Mapping[TopicPartition, list[Any]] = await self._consumer.getmany(
                timeout_ms=int(timeout_s * 1000), max_records=RECORDS_MAX
            )
        return [(self._topics[tp.topic], record) for tp, records in fetched.items() for record in records]

    async def _assign(self, partition: int | None) -> None:
        count = await self.partitions()
        chosen = range(count) if partition is None else (partition,)
        self._consumer.assign([TopicPartition(topic, number) for topic in self._topics for number in chosen])

    def _named(self, offsets: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
        return {(self._topics[tp.topic], tp.partition): offset for tp, offset in offsets.items()}

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._consumer.stop()
        except (KafkaError, OSError, TimeoutError):
            return
        except asyncio.CancelledError:
            # With the broker away, aiokafka lets out the cancellation of its own tasks; only one asked of us is ours.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise

    def _seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        for tp, offset in offsets.items():
            self._consumer.seek(tp, offset)


@asynccontextmanager
async def _bounded(timeout_s: float = REQUEST_TIMEOUT_S) -> AsyncIterator[None]:
    """A limit on the time and the end of the driver's errors."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable("Kafka", str(error) or type(error).__name__) from error
