"""The client over Kafka: one reader in the background, shared by all calls, begun before the first request is sent.

Reads:      generations.admitted.v1, generations.rejected.v1, generations.completed.v1, generations.failed.v1
Writes:     generations.requested.v1, generations.cancel_requested.v1, credits.granted.v1
Guarantees: an answer is matched to the very record that was sent: a refusal by the record that it names, an admission
            by its content. A request that ended before this client began is looked up in what Kafka keeps.
Fails:      while Kafka is away calls wait until their timeout, then raise Pending or Unavailable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from models.cancelling import CancelRequested
from models.errors import Unavailable
from models.following import EventFilter, FollowedEvent, answers, followed_event
from models.grants import Grant
from models.outputs import rfc3339
from models.positions import FOLLOWED, text_of
from models.refusals import Pending
from models.requests import Request
from models.results import Admission, ClientEvent, Completion, Named, completion_of, read_as, refusal_of
from models.topics import COMPLETED, FAILED, REJECTED
from streams.event_hub import EventHub
from streams.following import Followers, TooSlow
from streams.patience import Deadline, pauses
from streams.producer import Producer
from streams.reading import Reader
from streams.settings import Settings

log = logging.getLogger("darkroom")

ENDINGS = (COMPLETED, FAILED)
ENDINGS_MAX = 20_000
LOOKING_BACK_MAX = 4
BEGIN_TIMEOUT_S = 60.0
CLOSE_S = 5.0


class OverKafka:
    """See streams/client.py for what each call does and raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # The program is somebody else's: what is not raised goes to its own logging, never to its output.
        self._hub = EventHub(settings, lambda error: log.warning("%s", error))
        self._followers = Followers(settings, self._hub)
        self._producer = Producer(settings, client_id="darkroom-client")
        self._reading: asyncio.Task[None] | None = None
        self._looking_back = asyncio.Semaphore(LOOKING_BACK_MAX)
        self._endings: OrderedDict[tuple[str, str], FollowedEvent] = OrderedDict()
        self._seen_from_ms = 0
        self._forgotten_to_ms = 0

    async def request(self, request: Request, timeout_s: float) -> Admission:
        """Send it and wait for the decision."""
        deadline = Deadline(timeout_s)
        try:
            await self._begin(deadline)
            async with self._hub.awaiting(request.user_id, request.request_id) as events:
                place = await deadline.retried(lambda: self._producer.request(request, timeout_s=deadline.left_s))
                self._seen_from_ms = self._seen_from_ms or place.at_ms
                async with asyncio.timeout_at(deadline.at):
                    while not answers(event := await events.get(), request, place.partition, place.offset):
                        pass
        except (Unavailable, TimeoutError) as error:
            raise _pending(request, timeout_s, error) from None
        if event.topic == REJECTED:
            raise refusal_of(event.body)
        return read_as(Admission, event.body)

    async def completion(self, name: Named, timeout_s: float) -> Completion:
        """Wait for its end, or find it."""
        deadline = Deadline(timeout_s)
        try:
            await self._begin(deadline)
            async with self._hub.awaiting(name.user_id, name.request_id) as events:
                ending = self._endings.get((name.user_id, name.request_id))
                if ending is None and not self._would_be_seen(name):
                    ending = await deadline.retried(lambda: self._look_back(name, deadline))
                async with asyncio.timeout_at(deadline.at):
                    while ending is None:
                        event = await events.get()
                        ending = event if event.topic in ENDINGS else None
        except (Unavailable, TimeoutError) as error:
            raise _pending(name, timeout_s, error) from None
        return completion_of(ending.topic, ending.body)

    async def events(
        self, wanted: EventFilter, position: str | None, is_from_beginning: bool
    ) -> AsyncGenerator[ClientEvent]:
        """Follow; whoever is too slow for the memory of the reader goes on from Kafka."""
        await self._begin(Deadline(BEGIN_TIMEOUT_S))
        partition = None if wanted.user_id is None else self._hub.partition_of(wanted.user_id)
        if is_from_beginning:
            position = await self._beginning(partition)
        # Named, so that nothing is missed when following has to begin again.
        place = position or self._hub.position(partition)
        waits = pauses()
        while True:
            try:
                followed: Any = self._followers.follow(wanted, place)
                async with aclosing(followed):
                    async for event, after in followed:
                        place, waits = after, pauses()
                        yield _client_event(event, after)
            except (TooSlow, Unavailable):
                await asyncio.sleep(next(waits))

    async def cancel(self, wish: CancelRequested, timeout_s: float) -> None:
        """Send the wish."""
        deadline = Deadline(timeout_s)
        await deadline.retried(lambda: self._producer.cancel(wish, timeout_s=deadline.left_s))

    async def grant(self, grant: Grant, timeout_s: float) -> None:
        """Send the grant."""
        deadline = Deadline(timeout_s)
        await deadline.retried(lambda: self._producer.grant(grant, timeout_s=deadline.left_s))

    async def close(self) -> None:
        """Stop reading and disconnect."""
        self._followers.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading}, timeout=CLOSE_S)
        await self._producer.close()

    async def _begin(self, deadline: Deadline) -> None:
        """Return once nothing that comes from now on can be missed. Raises Unavailable."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="read events")
        await self._hub.positioned(deadline.left_s)

    async def _read(self) -> None:
        with self._hub.listening(EventFilter(types=frozenset(ENDINGS)), self._remember):
            await self._hub.run()

    def _remember(self, event: FollowedEvent) -> None:
        self._endings[event.user_id, event.request_id] = event
        if len(self._endings) > ENDINGS_MAX:
            _, gone = self._endings.popitem(last=False)
            self._forgotten_to_ms = max(self._forgotten_to_ms, gone.at_ms)

    def _would_be_seen(self, name: Named) -> bool:
        """Whether an end of this request would be among those remembered: nothing ends before it is admitted."""
        admitted_at = getattr(name, "admitted_at", None)
        if admitted_at is None or not self._seen_from_ms:
            return False
        return _ms_of(admitted_at) >= self._seen_from_ms and _ms_of(admitted_at) > self._forgotten_to_ms

    async def _look_back(self, name: Named, deadline: Deadline) -> FollowedEvent | None:
        """Its end in what Kafka keeps, if it is there. Raises Unavailable."""
        admitted_at = getattr(name, "admitted_at", None)
        partition = self._hub.partition_of(name.user_id)
        async with asyncio.timeout_at(deadline.at), self._looking_back, Reader(self._settings, ENDINGS) as reader:
            if admitted_at is None:
                await reader.start_at_beginning(partition)
            else:
                await reader.start_at_time(_ms_of(admitted_at), partition)
            ends = await reader.end_offsets()
            while await reader.behind(ends):
                for topic, record in await reader.read(1.0):
                    event = followed_event(topic, record)
                    if event and (event.user_id, event.request_id) == (name.user_id, name.request_id):
                        return event
        return None

    async def _beginning(self, partition: int | None) -> str:
        async with Reader(self._settings, FOLLOWED) as reader:
            first = await reader.start_at_beginning(partition)
        prefix = self._settings.topic_prefix
        offsets = {(tp.topic.removeprefix(prefix), tp.partition): offset for tp, offset in first.items()}
        return text_of(offsets, self._hub.partitions, partition)


def _client_event(event: FollowedEvent, position: str) -> ClientEvent:
    return ClientEvent(
        event.event_id,
        event.topic,
        event.topic,
        event.partition,
        event.offset,
        rfc3339(event.at_ms),
        event.body,
        position,
    )


def _pending(name: Named, timeout_s: float, error: Exception) -> Pending:
    return Pending(name.user_id, name.request_id, str(error) or f"nothing came within {timeout_s:g} s")


def _ms_of(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
