"""Publishing a step's outputs: one batch per topic, to the partition of their cause, acked by the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from models.errors import Unavailable
from models.outputs import Header, Output
from models.topics import DEAD_LETTERS as LETTERS
from models.topics import INCOMING, REJECTED
from streams.metrics import DEAD_LETTERS, EVENTS_PUBLISHED
from streams.partitioning import remembered_partition_of

REQUEST_TIMEOUT_S = 10.0
PUBLISH_TIMEOUT_S = 30.0


class Publisher:
    """An idempotent producer that is made anew when it has broken.

    What no broker has taken within `request_timeout_s` is given up and never sent later.
    """

    def __init__(
        self, bootstrap: str, *, client_id: str, topic_prefix: str = "", request_timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._request_timeout_s = request_timeout_s
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._prefix = topic_prefix
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def publish(self, partition: int, outputs: Sequence[Output]) -> None:
        """Publish all to this partition of their topics and wait for the acks.

        What is sent on goes to the partition of its key, and so does a refusal whose record was somewhere else than
        its user.
        Raises Unavailable: some may be published and some not; publishing all of them again is safe.
        """
        if not outputs:
            return
        by_topic: dict[str, list[Output]] = {}
        for output in outputs:
            by_topic.setdefault(output[0], []).append(output)

        async def send(producer: AIOKafkaProducer) -> None:
            acks: list[asyncio.Future[Any]] = []
            for topic, rows in by_topic.items():
                name = self._prefix + topic
                at_home, away = rows, []
                if topic in INCOMING:
                    at_home, away = [], rows
                elif topic == REJECTED:
                    at_home, away = _divided(rows, partition, len(await producer.partitions_for(name)))
                for _, key, value, headers in away:
                    acks.append(await producer.send(name, value, key=key, headers=headers))
                if at_home:
                    await self._send_batches(producer, name, partition, at_home, acks)
            await asyncio.gather(*acks)

        await self._guarded(send)
        for topic, rows in by_topic.items():
            EVENTS_PUBLISHED.labels(topic).inc(len(rows))
        for _, _, _, headers in by_topic.get(LETTERS, ()):
            self._count_letter(headers)

    def _count_letter(self, headers: Sequence[Header]) -> None:
        said = {name: value.decode() for name, value in headers if name in ("dl_topic", "dl_reason")}
        DEAD_LETTERS.labels(said["dl_topic"].removeprefix(self._prefix), said["dl_reason"]).inc()

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
    ) -> tuple[int, int, int]:
        """Publish one record to the partition of its key; returns (partition, offset, broker time in ms) once acked.

        Raises Unavailable: it may or may not be published; publishing it again is safe.
        """

        async def send(producer: AIOKafkaProducer) -> tuple[int, int, int]:
            metadata = await producer.send_and_wait(self._prefix + topic, value, key=key, headers=list(headers))
            return metadata.partition, metadata.offset, metadata.timestamp

        result: tuple[int, int, int] = await self._guarded(send)
        EVENTS_PUBLISHED.labels(topic).inc()
        return result

    async def close(self) -> None:
        """Flush and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _guarded(self, send: Any) -> Any:
        used: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                used = await self._started()
                return await send(used)
        except MessageSizeTooLargeError:
            raise  # trying again cannot help: whoever made such an output has a bug
        except (KafkaError, OSError, TimeoutError) as error:
            # A producer that failed once may be fenced or out of sequence for good: the next call makes a new one.
            if used is not None and self._producer is used:
                self._producer = None
                await _stop(used)
            raise Unavailable("Kafka", repr(error)) from error

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            async with self._starting:
                if self._producer is None:
                    producer = AIOKafkaProducer(
                        bootstrap_servers=self._bootstrap,
                        client_id=self._client_id,
                        acks="all",
                        enable_idempotence=True,
                        max_batch_size=1 << 20,
                        request_timeout_ms=int(self._request_timeout_s * 1000),
                    )
                    try:
                        await producer.start()
                    except BaseException:
                        await _stop(producer)
                        raise
                    self._producer = producer
        return self._producer

    @staticmethod
    async def _send_batches(
        producer: AIOKafkaProducer, topic: str, partition: int, rows: list[Output], acks: list[asyncio.Future[Any]]
    ) -> None:
        batch = producer.create_batch()
        for _, key, value, headers in rows:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                batch.close()
                acks.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                # The first record of a batch is taken whatever its size; the topic's own limit decides.
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        batch.close()
        acks.append(await producer.send_batch(batch, topic, partition=partition))


def _divided(rows: list[Output], partition: int, partitions: int) -> tuple[list[Output], list[Output]]:
    """(outputs whose key belongs to the partition, outputs whose key does not)."""
    at_home: list[Output] = []
    away: list[Output] = []
    for row in rows:
        key = (row[1] or b"").decode()
        (at_home if remembered_partition_of(key, partitions) == partition else away).append(row)
    return at_home, away


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(3.0):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError):
        return
