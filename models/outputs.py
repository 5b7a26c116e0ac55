"""What a step publishes: records of our own topics with CloudEvents headers in binary mode.

An event id is a plain string made from the event's cause, so the same event published again after a crash
carries the same id and consumers can drop the copy. Ids of users and requests hold no slash, so joined ids
cannot collide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from hashlib import sha256
from typing import Annotated, Protocol

import msgspec

from models.errors import OutputTooLarge
from models.topics import DEAD_LETTERS

Header = tuple[str, bytes]
Output = tuple[str, bytes | None, bytes | None, list[Header]]
"""(topic, key, value, headers), to be published to the partition of the record that caused it."""
Rfc3339 = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time in an event, as `rfc3339` writes it."""

LETTER_BYTES_MAX = 2 << 20
HEADERS_BYTES_MAX = 1 << 20
KEY_BYTES_MAX = 64 * 1024
OUTPUT_BYTES_MAX = 1_000_000
"""What fits any of our topics with its overhead; letters have a topic with a higher limit."""
LETTER_WHOLE_BYTES_MAX = LETTER_BYTES_MAX + HEADERS_BYTES_MAX + KEY_BYTES_MAX + 64 * 1024
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
# Ours take the place of any that came in: a letter must not lie about where it is from.
LETTER_HEADERS = {
    *("dl_topic", "dl_partition", "dl_offset", "dl_reason", "dl_error", "dl_at", "dl_id"),
    *("dl_truncated", "dl_sha256", "dl_key_truncated"),
}


class Record(Protocol):
    """The parts of a consumed record that deciding may use. `timestamp` is broker time in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


class EventStamp:
    """Makes the headers of one kind of event; what never changes is made once."""

    __slots__ = ("_fixed",)

    def __init__(self, topic: str, source: str) -> None:
        self._fixed = [
            ("ce_specversion", b"1.0"),
            ("ce_type", topic.encode()),
            ("ce_source", f"/darkroom/{source}".encode()),
            ("content-type", b"application/json"),
        ]

    def headers(self, event_id: str, traceparent: str | None = None) -> list[Header]:
        """The event's headers; `traceparent` is that of the request which the event is about."""
        headers = [("ce_id", event_id.encode()), *self._fixed]
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        return headers


def traceparent_of(record: Record) -> str | None:
    """The record's W3C trace context, if it came with one in the form of version 00; anything else is dropped."""
    for name, value in record.headers:
        if name == "traceparent" and value is not None:
            text = value.decode("ascii", "replace")
            return text if _TRACEPARENT.match(text) else None
    return None


def traceparent_in(text: str | None) -> Header | None:
    """The Kafka header for a W3C trace context that came over HTTP; None for anything else."""
    if text is None or _TRACEPARENT.match(text) is None:
        return None
    return ("traceparent", text.encode())


def bounded_headers(headers: Sequence[Header], bytes_max: int = HEADERS_BYTES_MAX) -> list[Header]:
    """A foreign record's headers for copying: as they are, or none at all if they are too many."""
    size_bytes = _headers_bytes(headers)
    return list(headers) if size_bytes <= bytes_max else [("dl_headers_dropped", str(size_bytes).encode())]


def _headers_bytes(headers: Sequence[Header]) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers)


def check_sizes(outputs: Sequence[Output]) -> None:
    """Raises OutputTooLarge for an output that its topic would not take, while its cause can still be buried."""
    for topic, key, value, headers in outputs:
        size_bytes = len(value or b"") + len(key or b"")
        if size_bytes > KEY_BYTES_MAX or len(headers) > 8:
            limit = LETTER_WHOLE_BYTES_MAX if topic == DEAD_LETTERS else OUTPUT_BYTES_MAX
            if size_bytes + _headers_bytes(headers) > limit:
                raise OutputTooLarge(f"an event for {topic} would have more than {limit} bytes")


def dead_letter(record: Record, reason: str, error: str) -> Output:
    """The record as it came, byte for byte, with where it came from and why it could not be handled.

    `reason` is a stable code, `error` a line for a person. The time is the record's own, so that the same
    letter sent again is the same letter. A value that was larger than any letter (small only while compressed)
    is cut to LETTER_BYTES_MAX and carries `dl_truncated` (its size) and `dl_sha256`; so is a key above KEY_BYTES_MAX,
    with `dl_key_truncated`.
    """
    coordinates = f"{record.topic}/{record.partition}/{record.offset}"
    value = record.value
    headers = [header for header in bounded_headers(record.headers) if header[0] not in LETTER_HEADERS]
    if value is not None and len(value) > LETTER_BYTES_MAX:
        headers += [
            ("dl_truncated", str(len(value)).encode()),
            ("dl_sha256", sha256(value).hexdigest().encode()),
        ]
        value = value[:LETTER_BYTES_MAX]
    key = record.key
    if key is not None and len(key) > KEY_BYTES_MAX:
        headers.append(("dl_key_truncated", str(len(key)).encode()))
        key = key[:KEY_BYTES_MAX]
    headers += [
        ("dl_topic", record.topic.encode()),
        ("dl_partition", str(record.partition).encode()),
        ("dl_offset", str(record.offset).encode()),
        ("dl_reason", reason.encode()),
        ("dl_error", error.encode("utf-8", "replace")[:1000]),
        ("dl_at", rfc3339(record.timestamp).encode()),
        ("dl_id", coordinates.encode()),
    ]
    return (DEAD_LETTERS, key, value, headers)


_EPOCH = date(1970, 1, 1)
_DATES: dict[int, str] = {}
_latest = (0, "1970-01-01T00:00:00.000Z")


def rfc3339(at_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 UTC: 2026-01-31T08:15:30.123Z.

    The day is looked up, and so is the moment that was asked for last: records of one Kafka batch share their broker
    time, and formatting whole datetimes would be felt on the admission path.
    """
    global _latest
    latest_ms, text = _latest
    if at_ms != latest_ms:
        text = _formatted(at_ms)
        _latest = (at_ms, text)
    return text


def _formatted(at_ms: int) -> str:
    seconds, millis = divmod(at_ms, 1000)
    days, second_of_day = divmod(seconds, 86_400)
    day = _DATES.get(days)
    if day is None:
        if len(_DATES) > 1000:
            _DATES.clear()
        day = _DATES[days] = (_EPOCH + timedelta(days=days)).isoformat()
    minutes, second = divmod(second_of_day, 60)
    hour, minute = divmod(minutes, 60)
    return f"{day}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
