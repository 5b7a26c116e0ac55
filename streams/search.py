"""Finding the events of one request: a bounded scan of the topics, of the user's partition when it is known."""

from __future__ import annotations

import time
from collections.abc import Sequence

from models.timeline import Event, event_about
from models.topics import TOPICS
from streams.partitioning import partition_of
from streams.reading import Reader
from streams.settings import Settings


async def events_of_request(
    settings: Settings,
    request_id: str,
    user_id: str | None,
    *,
    since_ms: int | None,
    timeout_s: float,
    topics: Sequence[str] = tuple(TOPICS),
) -> tuple[list[Event], bool]:
    """The request's events as far as Kafka keeps them, and whether the scan reached today's end of the topics.

    Without a user all partitions are read; `since_ms` is broker time, None for the beginning.
    Raises Unavailable; SetupFailed when topics are missing.
    """
    deadline = time.monotonic() + timeout_s
    found: list[Event] = []
    async with Reader(settings, topics) as reader:
        partition = None if user_id is None else partition_of(user_id, await reader.partitions())
        if since_ms is None:
            await reader.start_at_beginning(partition)
        else:
            await reader.start_at_time(since_ms, partition)
        ends = await reader.end_offsets()
        while await reader.behind(ends):
            if time.monotonic() > deadline:
                return found, False
            for topic, record in await reader.read(0.5):
                event = event_about(topic, record, request_id, user_id)
                if event is not None:
                    found.append(event)
    return found, True
