"""What a process keeps of the events that it has read: the latest, in the order it read them, and what it has seen.

Pure: the shell (streams/event_hub.py) reads Kafka and hands everything in here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from models.following import EventFilter, FollowedEvent
from models.positions import Offsets
from models.topics import REJECTED

EVENTS_MAX = 20_000
BYTES_MAX = 32 << 20
SEEN_MAX = 200_000
REJECTIONS_MAX = 20_000
ASKED_MAX = 20_000


class EventLog:
    """The latest events without copies, where reading stands, and the latest refusals by request."""

    def __init__(self, *, events_max: int = EVENTS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self.offsets: dict[tuple[str, int], int] = {}
        self.kept_from: dict[tuple[str, int], int] = {}
        self._events: deque[FollowedEvent] = deque()
        self._bytes = 0
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._asked: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._rejections: OrderedDict[tuple[str, str], FollowedEvent] = OrderedDict()

    def begin(self, offsets: Offsets) -> None:
        """Reading begins here; what was kept is given up if it does not go on from there."""
        if self.offsets != dict(offsets):
            self.offsets = dict(offsets)
            self.kept_from = dict(offsets)
            self._events.clear()
            self._bytes = 0

    def skip(self, topic: str, partition: int, offset: int) -> None:
        """The record there has been read and is no event."""
        self.offsets[topic, partition] = offset + 1

    def add(self, event: FollowedEvent) -> bool:
        """An event has been read. Whether it is new; False for a copy, which is to be dropped."""
        self.offsets[event.topic, event.partition] = event.offset + 1
        self._asked.pop((event.user_id, event.request_id), None)
        if event.topic == REJECTED:
            self._rejections[event.user_id, event.request_id] = event
            self._rejections.move_to_end((event.user_id, event.request_id))
            if len(self._rejections) > REJECTIONS_MAX:
                self._rejections.popitem(last=False)
        if event.event_id in self._seen:
            return False
        self._seen[event.event_id] = None
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        self._events.append(event)
        self._bytes += len(event.value)
        while len(self._events) > self._events_max or self._bytes > self._bytes_max:
            gone = self._events.popleft()
            self._bytes -= len(gone.value)
            self.kept_from[gone.topic, gone.partition] = gone.offset + 1
        return True

    def keeps(self, since: Offsets) -> bool:
        """Whether everything from these offsets on is here, as far as it has been read."""
        return all(offset >= self.kept_from.get(place, 1 << 63) for place, offset in since.items())

    def since(self, offsets: Offsets, wanted: EventFilter) -> Iterator[FollowedEvent]:
        """The events from these offsets on that are wanted, in the order they were read."""
        for event in list(self._events):
            offset = offsets.get((event.topic, event.partition))
            if offset is not None and event.offset >= offset and wanted.wants(event):
                yield event

    def note_asked(self, user_id: str, request_id: str, operation: str) -> None:
        """A request was sent from here: until something is said of it, it is undecided, whatever was said before."""
        self._rejections.pop((user_id, request_id), None)
        self._asked[user_id, request_id] = operation
        if len(self._asked) > ASKED_MAX:
            self._asked.popitem(last=False)

    def asked(self, user_id: str, request_id: str) -> str | None:
        """The operation of a request that was sent from here and is undecided, if it is among the latest of all."""
        return self._asked.get((user_id, request_id))

    def rejection(self, user_id: str, request_id: str) -> FollowedEvent | None:
        """The latest refusal of a request, if it is among the latest of all."""
        return self._rejections.get((user_id, request_id))
