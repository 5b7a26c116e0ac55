"""Dead letters: reading one back, and choosing some. Pure.

A letter is called by the place of the record that it holds (`topic/partition/offset`), so copies of it that a crash has
left are one letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from models.errors import WrongUse
from models.outputs import LETTER_HEADERS, Header, Record

REDRIVE_HEADER = "dl_redrive"
FOREIGN = "foreign"
"""The reason of a record on the topic that none of our steps has written."""
_COORDINATES = re.compile(r"^[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,18}\Z")
_CODE = re.compile(r"^[a-z][a-z0-9_]{0,63}\Z")
_ADDED = LETTER_HEADERS | {REDRIVE_HEADER, "dl_headers_dropped"}


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter as it lies on the topic. `topic` is the original one, without the deployment's prefix.

    `at_ms` is the broker's time of the original record; `truncated_bytes` is the whole size of a value or key that
    was cut; `content` is a digest of key and value, which is all that deciding depends on. `redrive_id` is what the
    record says of the redrive that it comes from: not believed without a look at what was written down.
    """

    letter_id: str
    topic: str
    reason: str
    error: str
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    buried_partition: int
    buried_offset: int
    truncated_bytes: int
    content: str
    redrive_id: str

    @property
    def original_headers(self) -> list[Header]:
        """The headers that the record came with, those of an earlier redrive left out."""
        return [header for header in self.headers if header[0] not in _ADDED]


def read_letter(record: Record, topic_prefix: str) -> Letter:
    """Read one record of dead-letters.v1. Never raises: what is not one of ours has the reason FOREIGN."""
    said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    place = f"{record.partition}/{record.offset}"
    try:
        coordinates = f"{said['dl_topic']}/{int(said['dl_partition'])}/{int(said['dl_offset'])}"
        at_ms = round(datetime.fromisoformat(said["dl_at"]).timestamp() * 1000)
        truncated = int(said.get("dl_truncated") or said.get("dl_key_truncated") or 0)
        if said["dl_id"] != coordinates or not _COORDINATES.match(coordinates) or not _CODE.match(said["dl_reason"]):
            raise ValueError("its id or its reason is not in our form")
        topic = said["dl_topic"].removeprefix(topic_prefix)
        reason, error, letter_id = said["dl_reason"], said["dl_error"], coordinates
    except (KeyError, ValueError, OverflowError) as problem:
        topic, at_ms, truncated, letter_id = "", record.timestamp, 0, f"{record.topic}/{place}"
        reason, error = FOREIGN, f"no letter of ours: {problem}"
    return Letter(
        letter_id,
        topic,
        reason,
        error,
        at_ms,
        record.key,
        record.value,
        tuple(record.headers),
        record.partition,
        record.offset,
        truncated,
        _digest(record.key, record.value),
        said.get(REDRIVE_HEADER, "").split(" ", 1)[0][:64],
    )


def _digest(*parts: bytes | None) -> str:
    joined = b"".join(b"-" if part is None else b"+%d:" % len(part) + part for part in parts)
    return sha256(joined).hexdigest()


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters: all that are set must hold. Times are the original records' broker times, in milliseconds;
    `since_ms` is included, `until_ms` is not."""

    letter_ids: frozenset[str] | None = None
    reason: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    with_closed: bool = False

    def takes(self, letter: Letter) -> bool:
        """Whether the letter itself fits; whether it is open is asked of its history."""
        return (
            (self.letter_ids is None or letter.letter_id in self.letter_ids)
            and self.reason in (None, letter.reason)
            and self.topic in (None, letter.topic)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
        )

    @property
    def read_from_ms(self) -> int | None:
        """Where reading may begin: a letter is buried after its record came."""
        return None if self.letter_ids else self.since_ms


def read_moment_ms(text: str, now_ms: int) -> int:
    """A moment as RFC 3339 (UTC if it does not say), or how long ago: 45s, 30m, 2h, 7d. Milliseconds since the epoch.

    Raises WrongUse.
    """
    ago = _AGO.match(text)
    if ago is not None:
        return now_ms - round(float(ago[1]) * _UNITS_MS[ago[2]])
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        forms = "2026-01-31T08:15:00Z, or how long ago: 45s, 30m, 2h, 7d"
        raise WrongUse(f"{text[:40]!r} is no moment; give {forms}") from None


_AGO = re.compile(r"^(\d{1,6}(?:\.\d{1,3})?)([smhd])\Z", re.ASCII)
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
