"""A request as its user sees it: from its row, or from the events about one that has no row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.lifecycle import ENDED, State
from models.settlement import MESSAGES, message_of
from models.timeline import Event
from models.timeline_document import plain_row
from models.topics import REJECTED, REQUESTED

REJECTED_STATE = "rejected"
UNDECIDED_STATE = "undecided"
SEARCHED_TOPICS = (REQUESTED, REJECTED)
"""What tells of requests without a row."""


def view_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """An admitted request; the fields are those of gateway/schemas.py."""
    view = plain_row(row)
    if view["reason"] in MESSAGES:
        view["message"] = message_of(view["reason"], view["operation"])
    return view


def view_of_rejection(body: Mapping[str, Any]) -> dict[str, Any]:
    """A refused request, with all that generations.rejected.v1 says."""
    return {**body, "state": REJECTED_STATE}


def view_of_asked(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request that nobody has decided yet; `body` has its ids and its operation."""
    return {**{name: body[name] for name in ("request_id", "user_id", "operation")}, "state": UNDECIDED_STATE}


def view_of_events(events: Sequence[Event]) -> dict[str, Any] | None:
    """One user's request that has no row, by its events; None if there are none.

    A refused request may be sent again under its id: the newest event counts.
    """
    newest = max(
        (event for event in events if event.topic in SEARCHED_TOPICS),
        key=lambda event: (event.at_ms, event.topic == REJECTED),
        default=None,
    )
    if newest is None:
        return None
    if newest.topic == REJECTED:
        return view_of_rejection(newest.body)
    body = newest.body
    operation = body.get("operation")
    known = {"operation": operation} if isinstance(operation, str) else {}
    return {"request_id": body["request_id"], "user_id": body["user_id"], "state": UNDECIDED_STATE, **known}


def has_ended(state: str) -> bool:
    """Whether nothing can be stopped any more. Raises ValueError: not a state of a row."""
    return State(state) in ENDED
