"""Looking for a request's events on Kafka: bounded in time, in how far back, and in how many look at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from gateway.bounds import Places, in_time
from models.errors import Unavailable
from models.generation_views import SEARCHED_TOPICS, view_of_events
from models.timeline import Event
from models.timeline_document import owner_in
from models.topics import TOPICS
from streams.search import events_of_request
from streams.settings import Settings

SEARCH_TIMEOUT_S = 3.0
AT_ONCE_MAX = 2
SEARCHES_MAX = 8
TIMELINE_TIMEOUT_S = 8.0
TIMELINES_MAX = 2
LOOK_BACK_S = 3600
GRACE_S = 1.0
WHAT = "the search of the event log"


class Searches:
    """Finds events. At `app.state.searches`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Others wait in a short queue: a search takes about half a second.
        self._searching = asyncio.Semaphore(AT_ONCE_MAX)
        self._decisions = Places(SEARCHES_MAX, WHAT)
        self._timelines = Places(TIMELINES_MAX, WHAT)

    async def view_of_undecided(self, request_id: str, user_id: str | None) -> dict[str, Any] | None:
        """A request that has no row: refused or undecided; None when the last hour's events say nothing of it.

        Raises Unavailable; Ambiguous: several users have one, and none is named.
        """
        events, is_complete = await self._find(
            request_id, user_id, _look_back_ms(), SEARCHED_TOPICS, SEARCH_TIMEOUT_S, self._decisions
        )
        owner_in(request_id, events, user_id)
        if not is_complete:
            # What has not been seen may say otherwise.
            raise Unavailable(WHAT, "it did not come to its end in time")
        return view_of_events(events)

    async def events(self, request_id: str, user_id: str | None, since_ms: int | None) -> tuple[Sequence[Event], bool]:
        """All events about a request in order of time, and whether the search came to its end.

        Raises Unavailable.
        """
        since_ms = _look_back_ms() if since_ms is None else since_ms
        events, is_complete = await self._find(
            request_id, user_id, since_ms, tuple(TOPICS), TIMELINE_TIMEOUT_S, self._timelines
        )
        return sorted(events, key=lambda event: event.at_ms), is_complete

    async def _find(
        self,
        request_id: str,
        user_id: str | None,
        since_ms: int,
        topics: Sequence[str],
        timeout_s: float,
        places: Places,
    ) -> tuple[list[Event], bool]:
        async def search() -> tuple[list[Event], bool]:
            async with self._searching:
                return await events_of_request(
                    self._settings, request_id, user_id, since_ms=since_ms, timeout_s=timeout_s, topics=topics
                )

        return await in_time(search(), places, timeout_s + GRACE_S, WHAT)


def _look_back_ms() -> int:
    return int((time.time() - LOOK_BACK_S) * 1000)
