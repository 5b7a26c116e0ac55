"""The life of an admitted request, as a table: state × event -> state and what must be done with it.

    admitted ──queued──> queued ──(dispatcher's intent)──> submitting ──started──> running
    running ──succeeded──> storing ──stored──> completed
    any unfinished state ──failed, rejected, expired──> failed (refunded);  ──canceled──> cancelled (refunded)

Rules:
 1. Every request ends in exactly one of completed, failed, cancelled; from there nothing leads on, so facts that
    come twice, late or out of order change nothing.
 2. A fact that a state does not expect is dropped here and nowhere else.
 3. Money moves only on a transition into an end state, so it moves once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """generations.state"""

    ADMITTED = "admitted"
    QUEUED = "queued"
    SUBMITTING = "submitting"
    RUNNING = "running"
    STORING = "storing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can become known about a request."""

    QUEUED = "queued"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    PROVIDER_FAILED = "provider_failed"
    PROVIDER_REJECTED = "provider_rejected"
    CANCELED = "canceled"
    EXPIRED = "expired"
    STORED = "stored"
    OUTPUTS_LOST = "outputs_lost"


UNFINISHED = (State.ADMITTED, State.QUEUED, State.SUBMITTING, State.RUNNING, State.STORING)
ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)
AT_PROVIDER = (State.QUEUED, State.SUBMITTING, State.RUNNING)


@dataclass(frozen=True)
class Transition:
    """Where an event leads. `refunds` says that the whole cost is given back; `reason` is generations.failed's."""

    state: State
    refunds: bool = False
    reason: str = ""


def _failure(reason: str, state: State = State.FAILED) -> Transition:
    return Transition(state, refunds=True, reason=reason)


TRANSITIONS: dict[tuple[State, Event], Transition] = {
    (State.ADMITTED, Event.QUEUED): Transition(State.QUEUED),
    **{(state, Event.STARTED): Transition(State.RUNNING) for state in (State.QUEUED, State.SUBMITTING)},
    **{(state, Event.SUCCEEDED): Transition(State.STORING) for state in AT_PROVIDER},
    **{(state, Event.PROVIDER_FAILED): _failure("provider_failed") for state in AT_PROVIDER},
    **{(state, Event.PROVIDER_REJECTED): _failure("provider_rejected") for state in AT_PROVIDER},
    **{(state, Event.CANCELED): _failure("cancelled", State.CANCELLED) for state in AT_PROVIDER},
    **{(state, Event.EXPIRED): _failure("expired") for state in UNFINISHED},
    (State.STORING, Event.STORED): Transition(State.COMPLETED),
    (State.STORING, Event.OUTPUTS_LOST): _failure("outputs_lost"),
}


def transition(state: State, event: Event) -> Transition | None:
    """What an event means in a state; None when it means nothing."""
    return TRANSITIONS.get((state, event))


_STATUS_EVENTS = {
    "starting": Event.STARTED,
    "processing": Event.STARTED,
    "succeeded": Event.SUCCEEDED,
    "failed": Event.PROVIDER_FAILED,
    "aborted": Event.PROVIDER_FAILED,
    "canceled": Event.CANCELED,
    "rejected": Event.PROVIDER_REJECTED,
    "expired": Event.EXPIRED,
}


def event_of_status(status: str) -> Event | None:
    """The event behind a status of predictions.updated.v1; None for one that is new to us.

    `rejected` and `expired` are our own services' words, the others are the provider's.
    """
    return _STATUS_EVENTS.get(status)
