"""Applying and checking the topic registry on a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from models.errors import Unavailable
from models.topics import TOPICS
from streams.settings import Settings

TIMEOUT_S = 20.0
_ALREADY_EXISTS = TopicAlreadyExistsError.errno


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require("kafka"), request_timeout_ms=int(TIMEOUT_S * 1000))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await admin.start()
            yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable("Kafka", str(error) or type(error).__name__) from error
    finally:
        await admin.close()


async def apply_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; existing ones are left as they are. Returns the names created.

    Raises Unavailable.
    """
    wanted = [
        NewTopic(
            settings.topic_prefix + topic.name,
            settings.partitions,
            settings.replication,
            topic_configs=topic.configuration(),
        )
        for topic in TOPICS.values()
    ]
    async with _admin(settings) as admin:
        existing = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        if not missing:
            return []
        response = await admin.create_topics(missing)
        created = []
        for name, code, *_ in response.topic_errors:
            if code not in (0, _ALREADY_EXISTS):
                raise Unavailable("Kafka", f"could not create {name}: {for_code(code).__name__}")
            if code == 0:
                created.append(name)
        await _until_led(admin, [topic.name for topic in missing])
        return created


async def _until_led(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """A new topic is usable a moment after it is made: when every partition has a leader. Bounded by the caller."""
    while True:
        described = await admin.describe_topics(names)
        if all(
            not topic["error_code"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
            for topic in described
        ):
            return
        await asyncio.sleep(0.05)


async def check_topics(settings: Settings) -> list[str]:
    """What differs between the registry and the broker, a line each; empty when all is as it should be."""
    names = {settings.topic_prefix + topic.name: topic for topic in TOPICS.values()}
    problems = []
    async with _admin(settings) as admin:
        existing = set(await admin.list_topics())
        problems += [f"{name} is missing; run `darkroom topics apply`" for name in names if name not in existing]
        present = [name for name in names if name in existing]
        for described in await admin.describe_topics(present):
            count = len(described["partitions"])
            if count != settings.partitions:
                problems.append(
                    f"{described['topic']} has {count} partitions, DARKROOM_PARTITIONS is {settings.partitions}"
                )
        configurations = await _configurations(admin, present)
        for name in present:
            for key, value in names[name].configuration().items():
                found = configurations[name].get(key)
                if found != value:
                    problems.append(f"{name} has {key}={found}, should be {value}")
    return problems


async def _configurations(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }
