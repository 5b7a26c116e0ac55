"""Events as Darkroom's agents would publish them, for tests without agents."""

from __future__ import annotations

from typing import Any

import msgspec

from models.outputs import EventStamp, Output, rfc3339
from models.topics import ADMITTED, COMPLETED, FAILED, REJECTED
from streams.partitioning import partition_of
from streams.publisher import Publisher
from streams.settings import Settings


def event(topic: str, user_id: str, request_id: str, **fields: Any) -> Output:
    """An event about a request, with our headers."""
    body = {"request_id": request_id, "user_id": user_id, **fields}
    headers = EventStamp(topic, "test").headers(f"{user_id}/{request_id}/{topic}")
    return (topic, user_id.encode(), msgspec.json.encode(body), headers)


def admitted(user_id: str, request_id: str, admitted_at_ms: int) -> Output:
    return event(ADMITTED, user_id, request_id, cost=1, balance=9, version=2, admitted_at=rfc3339(admitted_at_ms))


def rejected(user_id: str, request_id: str) -> Output:
    return event(REJECTED, user_id, request_id, reason="insufficient_credits", message="This needs 1 credit.")


def completed(user_id: str, request_id: str) -> Output:
    image = {"url": f"http://gateway/{request_id}.jpg", "width": 8, "height": 8}
    return event(COMPLETED, user_id, request_id, images=[image], cost=1, refunded=0)


def failed(user_id: str, request_id: str) -> Output:
    return event(FAILED, user_id, request_id, reason="expired", message="The picture took too long.", refunded=1)


async def publish(settings: Settings, user_id: str, *outputs: Output) -> None:
    """Publish to the user's partition, each after the one before it."""
    publisher = Publisher(settings.require("kafka"), client_id="test", topic_prefix=settings.topic_prefix)
    try:
        for output in outputs:
            await publisher.publish(partition_of(user_id, settings.partitions), [output])
    finally:
        await publisher.close()
