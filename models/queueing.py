"""Queueing: an admitted request becomes work. Nothing is published: the row is the queue."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from models.outputs import Output, Record, dead_letter
from models.requests import Id, Unreadable, read_object


class AdmittedRequest(msgspec.Struct, frozen=True):
    """The parts of generations.admitted.v1 that queueing needs; the rest is in the row."""

    request_id: Id
    user_id: Id


class Queued(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """Handed to the dispatcher, now or before."""


class Dead(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Unreadable."""

    reason: str
    error: str


Decision = Queued | Dead
Input = AdmittedRequest | Unreadable

_decoder = msgspec.json.Decoder(AdmittedRequest)


def read_admitted(value: bytes | None) -> Input:
    """Read one record of generations.admitted.v1. Never raises."""
    try:
        return _decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        body = read_object(value)
        return body if isinstance(body, Unreadable) else Unreadable("bad_event", str(error))


def decide(inputs: Sequence[Input]) -> list[Decision]:
    """Queue what can be read."""
    return [Dead(entry.reason, entry.error) if isinstance(entry, Unreadable) else Queued() for entry in inputs]


def render(records: Sequence[Record], decisions: Sequence[Decision]) -> list[Output]:
    """Dead letters only."""
    return [
        dead_letter(record, decision.reason, decision.error)
        for record, decision in zip(records, decisions, strict=True)
        if isinstance(decision, Dead)
    ]
