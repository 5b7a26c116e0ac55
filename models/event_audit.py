"""Events against rows: what the topics of one partition have announced, and what the rows say should have been.

An event is published after the commit of what it announces, so an event without its row is wrong at any time; a row
without its event is only late while its step is under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from models.topics import ADMITTED, COMPLETED, CREDITS, FAILED

EVENT_TOPICS = (ADMITTED, COMPLETED, FAILED, CREDITS)

EVENT_INVARIANTS: dict[str, str] = {
    "admissions_are_announced": "Every admitted request has its generations.admitted event, with its cost and balance.",
    "ends_are_announced": "Every ended request has its completed or failed event, with what was refunded.",
    "balances_are_announced": "Each account is what the last credits.changed event of its user says.",
    "no_event_without_row": "Every admission, completion and failure on the topics is that of a row.",
    "copies_are_equal": "Events of the same id have the same content.",
    "events_can_be_read": "Everything on the topics of events is one of ours.",
    "letters_are_of_handled_records": "Every dead letter holds a record that its stream has got past.",
    "actions_have_their_letter": "Every letter that something was done with is on the topic of dead letters.",
}

Identity = tuple[str, str]
_TOPIC_OF_END = {"completed": COMPLETED, "failed": FAILED, "cancelled": FAILED}


class Row(NamedTuple):
    """What a generations row says that its events must say too."""

    cost: int
    balance: int
    version: int
    state: str
    refunded: int
    admitted_at_ms: int


class _Admitted(msgspec.Struct):
    user_id: str
    request_id: str
    cost: int
    balance: int
    version: int


class _Ended(msgspec.Struct):
    user_id: str
    request_id: str
    refunded: int


class _Changed(msgspec.Struct):
    user_id: str
    balance: int
    version: int


_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    ADMITTED: msgspec.json.Decoder(_Admitted),
    COMPLETED: msgspec.json.Decoder(_Ended),
    FAILED: msgspec.json.Decoder(_Ended),
    CREDITS: msgspec.json.Decoder(_Changed),
}


@dataclass(slots=True)
class Announced:
    """What the topics of one partition say. `since_ms` is the time of the first admission that is still kept."""

    admitted: dict[Identity, tuple[int, int, int]] = field(default_factory=dict)
    ended: dict[Identity, tuple[str, int]] = field(default_factory=dict)
    balances: dict[str, tuple[int, int]] = field(default_factory=dict)
    unequal: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    since_ms: int | None = None
    _contents: dict[bytes, bytes] = field(default_factory=dict)

    def see(self, topic: str, event_id: bytes, value: bytes | None, at_ms: int, place: str) -> None:
        """Take in one event. `place` names it for a person."""
        if value is None:
            return
        try:
            event = _decoders[topic].decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.unreadable.append(place)
            return
        # Short digests: a million events must fit into memory, and nobody forges them here.
        name, content = _digest(topic.encode() + b"\0" + event_id), _digest(value)
        if self._contents.setdefault(name, content) != content:
            self.unequal.append(event_id.decode(errors="replace"))
        if isinstance(event, _Admitted):
            self.since_ms = at_ms if self.since_ms is None else self.since_ms
            self.admitted[event.user_id, event.request_id] = (event.cost, event.balance, event.version)
        elif isinstance(event, _Ended):
            self.ended[event.user_id, event.request_id] = (topic, event.refunded)
        elif event.version > self.balances.get(event.user_id, (0, 0))[1]:
            self.balances[event.user_id] = (event.balance, event.version)


def unannounced(rows: Mapping[Identity, Row], announced: Announced, kept_since_ms: int) -> Iterator[tuple[str, str]]:
    """(invariant, request) for each row that its events do not say, of those admitted since `kept_since_ms`."""
    for identity, row in rows.items():
        if row.admitted_at_ms < kept_since_ms:
            continue
        if announced.admitted.get(identity) != (row.cost, row.balance, row.version):
            yield "admissions_are_announced", "/".join(identity)
        topic = _TOPIC_OF_END.get(row.state)
        if topic is not None and announced.ended.get(identity) != (topic, row.refunded):
            yield "ends_are_announced", "/".join(identity)


def unfounded(announced: Announced, rows: Mapping[Identity, Row]) -> Iterator[Identity]:
    """The requests with an event that these rows do not bear out; newer rows may."""
    yield from announced.admitted.keys() - rows.keys()
    for identity, (topic, _) in announced.ended.items():
        row = rows.get(identity)
        if row is None or _TOPIC_OF_END.get(row.state) != topic:
            yield identity


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=10).digest()
