"""Publishing facts about work outside: the only way in which services and the gateway change a request's state."""

from __future__ import annotations

from typing import Protocol

import msgspec

from models.facts import ImagesStored, PredictionUpdated
from models.outputs import EventStamp, Header
from models.topics import PREDICTIONS, STORED

_encode = msgspec.json.Encoder().encode


class Sending(Protocol):
    """The publisher, as far as facts need it."""

    async def send(self, topic: str, key: bytes | None, value: bytes, headers: list[Header]) -> object:
        """Publish to the key's partition; returns once acked. Raises Unavailable."""


class FactPublisher:
    """Facts under the name of whoever saw them."""

    def __init__(self, publisher: Sending, source: str) -> None:
        self._publisher = publisher
        self._stamps = {topic: EventStamp(topic, source) for topic in (PREDICTIONS, STORED)}

    async def prediction(self, fact: PredictionUpdated, traceparent: str | None = None) -> None:
        """predictions.updated.v1, acked. Raises Unavailable: publishing it again is harmless."""
        await self._send(PREDICTIONS, fact, traceparent)

    async def stored(self, fact: ImagesStored, traceparent: str | None = None) -> None:
        """images.stored.v1, acked. Raises Unavailable: publishing it again is harmless."""
        await self._send(STORED, fact, traceparent)

    async def _send(self, topic: str, fact: PredictionUpdated | ImagesStored, traceparent: str | None) -> None:
        headers = self._stamps[topic].headers(fact.event_id(), traceparent)
        await self._publisher.send(topic, fact.user_id.encode(), _encode(fact), headers)
