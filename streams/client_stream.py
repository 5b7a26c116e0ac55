"""GET /v1/events as events, opened again whenever it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import httpx
import msgspec

from models.errors import Unavailable
from models.following import EventFilter
from models.results import ClientEvent, Completion
from models.sse import ServerEvent, SseReader
from streams.client_answers import AGAIN, checked, retry_after_s
from streams.patience import pauses

CONNECT_TIMEOUT_S = 5.0
# Three of the gateway's heartbeats.
SILENCE_S = 45.0


class _Looks(Protocol):
    async def __call__(self) -> Completion | None: ...


async def _looks_nowhere() -> None:
    return None


class EventStream:
    """GET /v1/events, opened again whenever it ends; after each opening it `looks` for what came before."""

    def __init__(
        self, client: httpx.AsyncClient, wanted: EventFilter, position: str | None, looks: Any = _looks_nowhere
    ) -> None:
        self._client = client
        self._position = position
        self._looks: _Looks = looks
        self._query: list[tuple[str, str | int | float | bool | None]] = [
            ("type", topic) for topic in sorted(wanted.types or ())
        ]
        if wanted.user_id is not None:
            self._query.append(("user", wanted.user_id))
        if wanted.operation is not None:
            self._query.append(("operation", wanted.operation))

    async def events(self) -> AsyncGenerator[ClientEvent | Completion]:
        """Endless. Raises Gone, Forbidden, WrongUse."""
        waits = pauses()
        while True:
            pause_s = next(waits)
            headers = {"accept": "text/event-stream"}
            if self._position:
                headers["last-event-id"] = self._position
            limit = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
            try:
                async with self._client.stream(
                    "GET", "/v1/events", params=self._query, headers=headers, timeout=limit
                ) as response:
                    if response.status_code in AGAIN:
                        pause_s += retry_after_s(response)
                    else:
                        if response.status_code != 200:
                            await response.aread()
                            checked(response)
                        found = await self._looks()
                        if found is not None:
                            yield found
                        async with aclosing(self._read(response)) as events:
                            async for event in events:
                                waits = pauses()
                                yield event
            except (httpx.HTTPError, Unavailable):
                pass  # opened again below, for as long as whoever asks has time
            await asyncio.sleep(pause_s)

    async def _read(self, response: httpx.Response) -> AsyncGenerator[ClientEvent]:
        reader = SseReader()
        async for chunk in response.aiter_bytes():
            for server_event in reader.feed(chunk):
                if server_event.event == "bye":
                    return
                self._position = server_event.last_id or self._position
                yield _client_event(server_event)


class _CloudEvent(msgspec.Struct):
    id: str
    type: str
    partition: int
    offset: int
    time: str
    data: dict[str, Any]


def _client_event(event: ServerEvent) -> ClientEvent:
    try:
        read = msgspec.json.decode(event.data, type=_CloudEvent)
    except msgspec.MsgspecError as error:
        raise Unavailable("an event that can be read", str(error)) from error
    return ClientEvent(read.id, read.type, read.type, read.partition, read.offset, read.time, read.data, event.last_id)
