from __future__ import annotations

import asyncpg
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from models.topics import TOPICS
from streams.settings import Settings

_LOG_APPEND_TIME = 1


async def test_every_test_has_a_migrated_database_topics_and_cache_of_its_own(
    settings: Settings, applied_topics: list[str], stack: Settings
) -> None:
    assert set(applied_topics) == {settings.topic_prefix + name for name in TOPICS}

    connection = await asyncpg.connect(settings.require("postgres"))
    assert await connection.fetchval("SELECT count(*) FROM accounts") == 0
    assert settings.postgres != stack.postgres
    await connection.close()

    async with redis.asyncio.from_url(settings.require("redis")) as client:
        assert await client.dbsize() == 0
    assert settings.redis != stack.redis


async def test_the_broker_stamps_records_with_its_own_time(settings: Settings, applied_topics: list[str]) -> None:
    topic = sorted(applied_topics)[0]
    producer = AIOKafkaProducer(bootstrap_servers=settings.require("kafka"))
    await producer.start()
    await producer.send_and_wait(topic, b"{}", key=b"user", timestamp_ms=1000)
    await producer.stop()

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=settings.require("kafka"), auto_offset_reset="earliest")
    await consumer.start()
    record = await consumer.getone()
    await consumer.stop()
    assert record.timestamp_type == _LOG_APPEND_TIME
    assert record.timestamp > 1000


async def test_a_commit_survives_because_postgres_keeps_its_durable_defaults(database: str) -> None:
    connection = await asyncpg.connect(database)
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await connection.fetchval("SELECT current_setting($1)", name) == "on"
    await connection.close()
