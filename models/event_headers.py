"""What the headers of events are, as JSON Schemas: CloudEvents 1.0 in Kafka's binary mode, and what letters carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.event_catalogue import EventType
from models.topics import DEAD_LETTERS, TOPICS

_TRACEPARENT = {
    "type": "string",
    "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    "description": "The W3C trace context that the request came with.",
}
_ORIGIN = {
    "dl_topic": "where the record was",
    "dl_partition": "its partition",
    "dl_offset": "its offset",
    "dl_reason": "a stable code",
    "dl_error": "a line for a person",
    "dl_at": "the record's time, RFC 3339",
    "dl_id": "topic/partition/offset: the same letter sent again is the same letter",
}
_IF_CUT = {
    "dl_truncated": "the value's size in bytes, if it was cut",
    "dl_sha256": "the whole value's digest, if it was cut",
    "dl_key_truncated": "the key's size in bytes, if it was cut",
    "dl_headers_dropped": "the size in bytes of headers that were too many to keep",
}
_CLOUD_EVENT = ("ce_specversion", "ce_id", "ce_type", "ce_source", "content-type")

HEADER_SCHEMAS: dict[str, Any] = {
    "CloudEventHeaders": {
        "title": "CloudEventHeaders",
        "description": "CloudEvents 1.0, binary mode. The event's time is the record's timestamp.",
        "type": "object",
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": {"type": "string", "description": "The same on every copy of the same event."},
            "ce_type": {"type": "string", "description": "The topic's name."},
            "ce_source": {"type": "string", "description": "Which part of Darkroom says it."},
            "content-type": {"const": "application/json"},
            "traceparent": _TRACEPARENT,
        },
        "required": list(_CLOUD_EVENT),
    },
    "IncomingHeaders": {
        "title": "IncomingHeaders",
        "description": "None is needed.",
        "type": "object",
        "properties": {"traceparent": _TRACEPARENT},
    },
    "DeadLetterHeaders": {
        "title": "DeadLetterHeaders",
        "description": "Where the record was and why it could not be handled, beside its own headers.",
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in (_ORIGIN | _IF_CUT).items()},
        "required": list(_ORIGIN),
    },
}


def header_schema(event: EventType) -> dict[str, Any]:
    """The schema of an event's headers."""
    if event.topic == DEAD_LETTERS:
        return {"$ref": "#/components/schemas/DeadLetterHeaders"}
    if event.event_id is None:
        return {"$ref": "#/components/schemas/IncomingHeaders"}
    own = {
        "ce_id": {"type": "string", "description": f"`{event.event_id}`"},
        "ce_type": {"const": event.topic},
        "ce_source": {"enum": [f"/darkroom/{source}" for source in event.sources]},
    }
    return {"allOf": [{"$ref": "#/components/schemas/CloudEventHeaders"}, {"type": "object", "properties": own}]}


def example_headers(event: EventType, payload: Any, traceparent: str) -> dict[str, str]:
    """Headers that an event with this value could have."""
    if event.topic == DEAD_LETTERS:
        said = (
            "generations.requested.v1",
            "3",
            "1042",
            "bad_json",
            "the value is not JSON",
            "2026-01-31T08:15:30.123Z",
        )
        return dict(zip(_ORIGIN, (*said, "generations.requested.v1/3/1042"), strict=True))
    if event.event_id is None:
        return {"traceparent": traceparent}
    headers = ("1.0", event_id_of(event, payload), event.topic, f"/darkroom/{event.sources[0]}", "application/json")
    traced = {} if TOPICS[event.topic].key != "user_id" else {"traceparent": traceparent}
    return dict(zip(_CLOUD_EVENT, headers, strict=True)) | traced


def event_id_of(event: EventType, payload: Mapping[str, Any], partition: int = 3, offset: int = 1042) -> str:
    """The `ce_id` of an event with this value, caused by the record at this place."""
    known = {"prediction_id": "-", "partition": partition, "offset": offset, "change": "5f0c"}
    return (event.event_id or "").format_map(known | dict(payload))
