"""Where topics end, asked over a connection of its own: the consumer's thread answers few questions at a time, and one
that waits for a broker which is away would hold up its fetches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as KafkaPartition

from models.errors import Unavailable
from streams.lanes import TopicPartition

REQUEST_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 1.0


class TopicEnds:
    """Connects when it is first asked, and anew when that has failed."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._consumer: AIOKafkaConsumer | None = None

    async def ask(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset that follows each partition's last committed record. Raises Unavailable."""
        if not partitions:
            return {}
        try:
            consumer = await self._connected()
            ends = await consumer.end_offsets([KafkaPartition(*tp) for tp in partitions])
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise Unavailable("Kafka", repr(error)) from error
        except BaseException:
            await self.close()
            raise
        return {TopicPartition(tp.topic, tp.partition): int(end) for tp, end in ends.items()}

    async def close(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await consumer.stop()
        except (KafkaError, OSError, TimeoutError):
            return

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap,
                client_id=self._client_id,
                group_id=None,
                enable_auto_commit=False,
                isolation_level="read_committed",
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            )
            await consumer.start()
        return self._consumer
