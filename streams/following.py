"""Following events from a place on: what is kept in memory or on Kafka, then what comes, nothing lost or twice."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from models.errors import DarkroomError, Unavailable
from models.following import EventFilter, FollowedEvent, followed_event
from models.positions import FOLLOWED, offsets_in, text_of
from streams.event_hub import BEFORE_END_RECORDS, EventHub
from streams.reading import Reader
from streams.settings import Settings

EVENTS_WAITING_MAX = 1_000
BYTES_WAITING_MAX = 4 << 20
REPLAYS_MAX = 1
REPLAYS_WAITING_MAX = 50
REPLAY_IDLE_S = 5.0
"""How long in all a follower may leave the one reader of old events waiting, while others wait for their turn."""
READ_S = 1.0
CHECKS_AT_ONCE = 100
CATCH_UP_S = 5.0
CATCH_UP_POLL_S = 0.05


Check = Callable[[], Awaitable[None]]


class Gone(DarkroomError):
    """What comes after a position is not kept any more, or never was."""

    code = "position_gone"


class TooSlow(DarkroomError):
    """A follower takes events more slowly than they come."""

    code = "too_slow"


class Closing(DarkroomError):
    """This process ends."""

    code = "closing"


class Followed(NamedTuple):
    """An event, and the position from which to go on after it."""

    event: FollowedEvent
    position: str


class Followers:
    """Makes followers of one hub. Old events are read by one more reader, for one follower at a time."""

    def __init__(self, settings: Settings, hub: EventHub) -> None:
        self._settings = settings
        self._hub = hub
        self._replaying = asyncio.Semaphore(REPLAYS_MAX)
        self._replays = 0
        self._followers: set[_Follower] = set()

    @property
    def count(self) -> int:
        """How many follow now."""
        return len(self._followers)

    async def check(self) -> None:
        """Ask for each follower whether it still may follow; whoever may not is ended with what was raised."""
        for number, follower in enumerate(tuple(self._followers)):
            if number % CHECKS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if follower.check is None:
                continue
            try:
                await follower.check()
            except DarkroomError as error:
                follower.end(error)

    def close(self) -> None:
        """Tell every follower that this process ends."""
        for follower in self._followers:
            follower.end(Closing("the server stops; go on from the last position"))

    def follow(self, wanted: EventFilter, position: str | None, check: Check | None = None) -> AsyncIterator[Followed]:
        """Everything wanted after a position, or from now on. What can be known to be wrong is raised here.

        `check` raises a DarkroomError when the follower may not follow any more; see Followers.check.
        Raises WrongUse: the position is none of ours. Gone: it lies beyond what there is. Unavailable: too many read
        old events already. While iterating: Gone, TooSlow, Closing, Unavailable.
        """
        follower = _Follower(self._settings, self._hub, wanted, position)
        follower.check = check
        if follower.is_old and self._replays >= REPLAYS_WAITING_MAX:
            raise Unavailable("Kafka", "too many are reading old events")
        return self._events(follower)

    async def _events(self, follower: _Follower) -> AsyncIterator[Followed]:
        self._followers.add(follower)
        try:
            async for followed in self._in_order(follower):
                yield followed
        finally:
            self._followers.discard(follower)

    async def _in_order(self, follower: _Follower) -> AsyncIterator[Followed]:
        with self._hub.listening(follower.wanted, follower.offer):
            # Between looking and listening nothing can come: there is no await.
            follower.begin()
            await follower.caught_up()
            if follower.is_old:
                self._replays += 1
                try:
                    async with self._replaying:
                        idle_s = 0.0
                        async for followed in follower.replayed():
                            given_at = time.monotonic()
                            yield followed
                            idle_s += time.monotonic() - given_at
                            if idle_s > REPLAY_IDLE_S:
                                raise TooSlow("old events were taken too slowly; go on from the last position")
                finally:
                    self._replays -= 1
            else:
                for followed in follower.kept():
                    yield followed
            while True:
                yield await follower.next()


class _Follower:
    def __init__(self, settings: Settings, hub: EventHub, wanted: EventFilter, position: str | None) -> None:
        self.wanted = wanted
        self.check: Check | None = None
        self._settings = settings
        self._hub = hub
        self._partition = None if wanted.user_id is None else hub.partition_of(wanted.user_id)
        now = hub.offsets(self._partition)
        self._place = now if position is None else offsets_in(position, hub.partitions, self._partition)
        self._until = now
        self._ahead: dict[tuple[str, int], int] = {}
        self._queue: deque[Followed] = deque()
        self._bytes = 0
        self._ending: DarkroomError | None = None
        self._come = asyncio.Event()

    @property
    def is_old(self) -> bool:
        """Whether events are wanted that only Kafka has."""
        return not self._hub.log.keeps(self._place)

    def begin(self) -> None:
        """Note where live events begin."""
        self._until = self._hub.offsets(self._partition)
        # The position may be of a process that has read further than this one.
        self._ahead = {place: offset for place, offset in self._place.items() if offset > self._until[place]}

    def offer(self, event: FollowedEvent) -> None:
        """An event has come."""
        if self._ending is not None or event.offset < self._ahead.get((event.topic, event.partition), 0):
            return
        self._queue.append(Followed(event, self._position_now()))
        self._bytes += len(event.value)
        if len(self._queue) > EVENTS_WAITING_MAX or self._bytes > BYTES_WAITING_MAX:
            self.end(TooSlow("events came faster than they were taken; go on from the last position"))
        self._come.set()

    def end(self, why: DarkroomError) -> None:
        """Give up what waits, and say why."""
        self._ending = why
        self._queue.clear()
        self._come.set()

    async def caught_up(self) -> None:
        """Wait until this process has read as far as the position. Raises Gone."""
        deadline = time.monotonic() + CATCH_UP_S
        while any(offset > self._hub.log.offsets[place] for place, offset in self._ahead.items()):
            if time.monotonic() > deadline:
                raise Gone("this position lies beyond everything there is; begin anew")
            await asyncio.sleep(CATCH_UP_POLL_S)

    def _position_now(self) -> str:
        if not self._ahead:
            return self._hub.position(self._partition)
        now = self._hub.offsets(self._partition)
        self._ahead = {place: offset for place, offset in self._ahead.items() if offset > now[place]}
        return text_of({**now, **self._ahead}, self._hub.partitions, self._partition)

    def kept(self) -> list[Followed]:
        """What is in memory, from the position to where live events begin."""
        kept = []
        for event in self._hub.log.since(dict(self._place), self.wanted):
            if event.offset < self._until[event.topic, event.partition]:
                kept.append(self._placed(event))
        return kept

    def _placed(self, event: FollowedEvent) -> Followed:
        self._place[event.topic, event.partition] = event.offset + 1
        return Followed(event, text_of(self._place, self._hub.partitions, self._partition))

    async def replayed(self) -> AsyncIterator[Followed]:
        """What is on Kafka, from the position to where live events begin."""
        since = dict(self._place)
        missing = {place for place, offset in since.items() if offset < self._until[place]}
        seen: set[str] = set()
        async with Reader(self._settings, FOLLOWED) as reader:
            # Copies of what was sent shortly before the position are known by what is read again before it.
            first = await reader.start_at({place: max(0, since[place] - BEFORE_END_RECORDS) for place in missing})
            if any(first[place] > since[place] for place in missing):
                raise Gone("what came after this position is not kept any more; begin anew")
            while missing:
                for topic, record in await reader.read(READ_S):
                    place = (topic, record.partition)
                    if record.offset + 1 >= self._until[place]:
                        missing.discard(place)
                    event = followed_event(topic, record)
                    if event is None or record.offset >= self._until[place] or event.event_id in seen:
                        continue
                    seen.add(event.event_id)
                    if record.offset >= since[place] and self.wanted.wants(event):
                        yield self._placed(event)

    async def next(self) -> Followed:
        """The next live event. Raises TooSlow, Closing."""
        while not self._queue:
            if self._ending is not None:
                raise self._ending
            self._come.clear()
            await self._come.wait()
        followed = self._queue.popleft()
        self._bytes -= len(followed.event.value)
        return followed
