"""The events that producers wait for and dashboards follow: read, matched to requests, written for streams. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from models.answers import GenerationAdmitted
from models.errors import WrongUse
from models.outputs import Record, rfc3339
from models.positions import FOLLOWED
from models.requests import Request
from models.topics import ADMITTED, REJECTED

SHORT_NAMES = {topic.split(".")[1]: topic for topic in FOLLOWED}
"""`admitted`, `rejected`, `completed`, `failed`."""


class _About(msgspec.Struct):
    user_id: str
    request_id: str
    operation: str = ""


_read_about = msgspec.json.Decoder(_About).decode
_read_admitted = msgspec.json.Decoder(GenerationAdmitted).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class FollowedEvent:
    """One event about a request. `at_ms` is broker time, `value` its JSON as it is on Kafka."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    event_id: str
    source: str
    user_id: str
    request_id: str
    operation: str
    value: bytes

    @cached_property
    def body(self) -> dict[str, Any]:
        """The value, decoded."""
        body: dict[str, Any] = msgspec.json.decode(self.value)
        return body

    @cached_property
    def document(self) -> bytes:
        """The event as a CloudEvent in JSON, on one line, with its place on Kafka."""
        head = {
            "specversion": "1.0",
            "id": self.event_id,
            "type": self.topic,
            "source": self.source,
            "time": rfc3339(self.at_ms),
            "datacontenttype": "application/json",
            "partition": self.partition,
            "offset": self.offset,
        }
        # JSON has no line break outside of its spaces, and a stream's line ends with one.
        value = self.value.replace(b"\n", b" ").replace(b"\r", b" ")
        return _encode(head)[:-1] + b',"data":' + value + b"}"


def followed_event(topic: str, record: Record) -> FollowedEvent | None:
    """The record as an event; None if it is not one of ours, which its topic's other readers make known."""
    headers = dict(record.headers)
    try:
        about = _read_about(record.value or b"")
        event_id, source = headers.get("ce_id", b"").decode(), headers.get("ce_source", b"").decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError):
        return None
    return FollowedEvent(
        topic,
        record.partition,
        record.offset,
        record.timestamp,
        event_id or f"{topic}/{record.partition}/{record.offset}",
        source or "/",
        about.user_id,
        about.request_id,
        about.operation,
        record.value or b"",
    )


def answers(event: FollowedEvent, request: Request, partition: int, offset: int) -> bool:
    """Whether an event decides the request that was published at this place.

    A refusal is named by its record. An admission is of whoever asked for the same first: of this request if it
    asked for the same too; otherwise a refusal for the conflict is on its way.
    """
    if (event.user_id, event.request_id) != (request.user_id, request.request_id):
        return False
    if event.topic == REJECTED:
        return event.event_id == f"{request.user_id}/{request.request_id}/rejected/{partition}-{offset}"
    if event.topic != ADMITTED:
        return False
    try:
        admitted = _read_admitted(event.value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    asked = (request.operation, request.prompt, request.options, request.context)
    return (admitted.operation, admitted.prompt, admitted.options, admitted.context) == asked


@dataclass(frozen=True)
class EventFilter:
    """What of the events is wanted; None for all."""

    user_id: str | None = None
    operation: str | None = None
    types: frozenset[str] | None = None

    def wants(self, event: FollowedEvent) -> bool:
        """Whether an event is wanted."""
        return (
            (self.user_id is None or event.user_id == self.user_id)
            and (self.operation is None or event.operation == self.operation)
            and (self.types is None or event.topic in self.types)
        )


def types_named(names: Sequence[str]) -> frozenset[str] | None:
    """Topics by name or short name, None when none is named. Raises WrongUse: there is no such."""
    if not names:
        return None
    known = {**SHORT_NAMES, **{topic: topic for topic in FOLLOWED}}
    for name in names:
        if name not in known:
            raise WrongUse("type: must be of " + ", ".join(SHORT_NAMES))
    return frozenset(known[name] for name in names)
