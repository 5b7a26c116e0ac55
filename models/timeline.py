"""One request's whole timeline, put together from events, ledger entries and rows. Pure.

Every moment has a time in milliseconds since the epoch and a place: the broker's clock for events, the database's
for rows, the provider's own for its work. On one machine they are the same clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from models.outputs import Record
from models.topics import (
    ADMITTED,
    CANCEL_REQUESTED,
    COMPLETED,
    CREDITS,
    FAILED,
    PREDICTIONS,
    REJECTED,
    REQUESTED,
    STORED,
)

ROW_TIMES = ("admitted_at", "queued_at", "submitted_at", "running_at", "storing_at", "finished_at")
PROVIDER_TIMES = ("created_at", "started_at", "completed_at")


@dataclass(frozen=True)
class Event:
    """An event about the request. `at_ms` is broker time."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    ce_id: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """One line of the timeline: when, what kind of thing, where it is written, and what it says."""

    at_ms: int
    kind: str
    where: str
    says: str


def event_about(topic: str, record: Record, request_id: str, user_id: str | None) -> Event | None:
    """The record as an event if it is about this request; with no user, about any user's request of this id."""
    # Almost no record is: look at the bytes before decoding them.
    if record.value is None or request_id.encode() not in record.value:
        return None
    try:
        body = msgspec.json.decode(record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    owner = owner_of(topic, body) if isinstance(body, dict) else None
    if owner is None or owner[1] != request_id or user_id not in (None, owner[0]):
        return None
    ce_id = next((value.decode(errors="replace") for name, value in record.headers if name == "ce_id"), "")
    return Event(topic, record.partition, record.offset, record.timestamp, ce_id, body)


def owner_of(topic: str, body: Mapping[str, Any]) -> tuple[str, str] | None:
    """(user_id, request_id) of what an event is about; a change of credits is about what caused it."""
    if topic == CREDITS:
        cause = body.get("cause")
        parts = str(cause.get("reference_id", "")).split("/") if isinstance(cause, dict) else []
        return (parts[0], parts[1]) if len(parts) >= 2 else None
    return (str(body.get("user_id")), str(body.get("request_id")))


def build(
    events: Sequence[Event],
    row: Mapping[str, Any] | None,
    ledger: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
) -> list[Moment]:
    """All moments in order of time; at the same millisecond in order of the path."""
    moments = [
        Moment(event.at_ms, "event", f"{event.topic} {event.partition}@{event.offset}", describe(event))
        for event in events
    ]
    moments += _provider_moments(events)
    if row is not None:
        for name in ROW_TIMES:
            if row[name] is not None:
                moments.append(Moment(millis(row[name]), "row", "generations", name.removesuffix("_at")))
    for entry in ledger:
        says = f"{entry['kind']} {entry['amount']:+d}, balance {entry['balance_after']}, version {entry['version']}"
        moments.append(Moment(millis(entry["created_at"]), "ledger", entry["reference_id"], says))
    for image in images:
        moments.append(Moment(millis(image["created_at"]), "row", image["kept_in"], image["image_id"]))
    return sorted(moments, key=lambda moment: (moment.at_ms, _place_on_path(moment)))


def describe(event: Event) -> str:
    """An event in a few words."""
    says = _SAYS.get(event.topic)
    return says(event.body) if says is not None else ""


_Says = Callable[[Mapping[str, Any]], str]
_SAYS: dict[str, _Says] = {
    REQUESTED: lambda body: f"{body.get('operation')} of {body.get('user_id')}",
    ADMITTED: lambda body: f"cost {body['cost']}, balance {body['balance']}, version {body['version']}",
    REJECTED: lambda body: f"{body['reason']}: {body['message']}",
    CREDITS: lambda body: f"{body['cause']['kind']} {body['cause']['amount']:+d}, balance {body['balance']}",
    CANCEL_REQUESTED: lambda body: f"to be cancelled, says {body['user_id']}",
    PREDICTIONS: lambda body: f"{body['status']}, told by the {body['source']}",
    STORED: lambda body: f"{len(body['images'])} stored, {len(body.get('missing', ()))} missing",
    COMPLETED: lambda body: f"{_made(body)}, cost {body['cost']}, refunded {body['refunded']}",
    FAILED: lambda body: f"{body['reason']}: {body['message']}",
}


def _made(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    return f"model {model['version']}" if model else f"{len(body['images'])} pictures"


def _provider_moments(events: Iterable[Event]) -> list[Moment]:
    """The provider's own times, from the last it said of each prediction."""
    last = {
        event.body.get("prediction_id"): event.body.get("prediction", {})
        for event in events
        if event.topic == PREDICTIONS
    }
    moments = []
    for prediction_id, prediction in last.items():
        for name in PROVIDER_TIMES:
            if isinstance(prediction.get(name), str):
                at_ms = millis(datetime.fromisoformat(prediction[name]))
                moments.append(Moment(at_ms, "provider", str(prediction_id), name.removesuffix("_at")))
    return moments


def millis(at: datetime) -> int:
    """Milliseconds since the epoch."""
    return round(at.timestamp() * 1000)


def _place_on_path(moment: Moment) -> int:
    topic = moment.where.partition(" ")[0]
    return list(_SAYS).index(topic) if topic in _SAYS else len(_SAYS)
