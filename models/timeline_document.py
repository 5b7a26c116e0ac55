"""A request's timeline as a document for programs: what `darkroom trace --json` prints and HTTP answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec

from models.errors import DarkroomError, WrongUse
from models.outputs import rfc3339
from models.timeline import Event, Moment, millis, owner_of

# A request that was refused may have been sent again under the same id: look a while before its admission.
BEFORE_ADMISSION_MS = 3_600_000


class UnknownRequest(DarkroomError):
    """Nothing is known of this request."""

    code = "unknown_request"


class Ambiguous(WrongUse):
    """Several users have a request of this id, and none is named."""

    code = "ambiguous"

    def __init__(self, request_id: str, users: Iterable[str]) -> None:
        self.users = sorted(users)
        super().__init__(f"several users have a request {request_id}: name the user ({', '.join(self.users)})")


def owner_in(request_id: str, events: Sequence[Event], user_id: str | None) -> str | None:
    """Whose request the events are about, `user_id` if there are none. Raises Ambiguous."""
    owners = {owner[0] for event in events if (owner := owner_of(event.topic, event.body))}
    if len(owners) > 1:
        raise Ambiguous(request_id, owners)
    return next(iter(owners), user_id)


def scan_start_ms(row: Mapping[str, Any] | None) -> int | None:
    """The broker time from which events about an admitted request are to be looked for; None without a row."""
    return None if row is None else millis(row["admitted_at"]) - BEFORE_ADMISSION_MS


def timeline_document(
    request_id: str,
    row: Mapping[str, Any] | None,
    ledger: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    events: Sequence[Event],
    moments: Sequence[Moment],
    *,
    is_complete: bool,
) -> dict[str, Any]:
    """Everything that is known of a request; `moments` are not empty.

    Times are RFC 3339 and, as `ms`, milliseconds since the first moment. `complete` says whether all events were seen.
    """
    start_ms = moments[0].at_ms

    def timed(fields: Mapping[str, Any], at_ms: int) -> dict[str, Any]:
        return {"ms": at_ms - start_ms, "at": rfc3339(at_ms), **plain_row(fields)}

    return {
        "request_id": request_id,
        "complete": is_complete,
        "row": plain_row(row) if row is not None else None,
        "events": [timed(_without_time(asdict(event)), event.at_ms) for event in events],
        "ledger": [timed(entry, millis(entry["created_at"])) for entry in ledger],
        "images": [timed(image, millis(image["created_at"])) for image in images],
        "timeline": [timed(_without_time(asdict(moment)), moment.at_ms) for moment in moments],
    }


def plain_row(row: Mapping[str, Any] | msgspec.Struct) -> dict[str, Any]:
    """A row by column with its times as RFC 3339."""
    if isinstance(row, msgspec.Struct):
        row = msgspec.structs.asdict(row)
    return {name: rfc3339(millis(value)) if isinstance(value, datetime) else value for name, value in row.items()}


def _without_time(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "at_ms"}
