"""The life of an admitted request, as a table: state × event -> state and what must be done with it.

`docs/lifecycle.md` draws this table; `python -m cli.documents` writes it.

Rules:
 1. Every request ends in exactly one of completed, failed, cancelled; from there nothing leads on, so facts that
    come twice, late or out of order change nothing.
 2. A fact that a state does not expect is dropped here and nowhere else.
 3. Money moves only on a transition into an end state, so it moves once.
 4. A run that the provider may have begun is never given up by a cancel alone: it is stopped there first, and the
    request ends when the provider says so, or at its deadline.
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
    SUBMITTED = "submitted"
    HANDED_BACK = "handed_back"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    TRAINED = "trained"
    PROVIDER_FAILED = "provider_failed"
    PROVIDER_REJECTED = "provider_rejected"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELED = "canceled"
    EXPIRED = "expired"
    STORED = "stored"
    OUTPUTS_LOST = "outputs_lost"


class Effect(StrEnum):
    """What a transition does beside changing the state."""

    REFUND = "refund"
    """Give back the whole cost."""
    REFUND_MISSING = "refund_missing"
    """Give back what each missing output of a set has cost."""
    KEEP_OUTPUTS = "keep_outputs"
    """Hand the outputs' addresses to the keeper."""
    KEEP_MODEL = "keep_model"
    """Make the trained model the user's own, unless a later training has made one."""
    STOP_RUN = "stop_run"
    """Let the reconciler cancel the run at the provider as soon as its id is known."""


UNFINISHED = (State.ADMITTED, State.QUEUED, State.SUBMITTING, State.RUNNING, State.STORING)
ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)
# An admitted or queued request has no run that we know of; one that announces itself is taken all the same.
BEFORE_OUTPUTS = (State.ADMITTED, State.QUEUED, State.SUBMITTING, State.RUNNING)


@dataclass(frozen=True)
class Transition:
    """Where an event leads; `reason` is generations.failed's."""

    state: State
    effects: frozenset[Effect] = frozenset()
    reason: str = ""

    @property
    def refunds(self) -> bool:
        """Whether the whole cost is given back."""
        return Effect.REFUND in self.effects


def _to(state: State, *effects: Effect) -> Transition:
    return Transition(state, frozenset(effects))


def _failure(reason: str, state: State = State.FAILED) -> Transition:
    return Transition(state, frozenset({Effect.REFUND}), reason)


def _from(states: tuple[State, ...], event: Event, led: Transition) -> dict[tuple[State, Event], Transition]:
    return {(state, event): led for state in states}


TRANSITIONS: dict[tuple[State, Event], Transition] = {
    (State.ADMITTED, Event.QUEUED): _to(State.QUEUED),
    # These two are the services' own: the intent to create a run, and that there is none after all.
    (State.QUEUED, Event.SUBMITTED): _to(State.SUBMITTING),
    (State.SUBMITTING, Event.HANDED_BACK): _to(State.QUEUED),
    **_from((State.ADMITTED, State.QUEUED, State.SUBMITTING), Event.STARTED, _to(State.RUNNING)),
    **_from(BEFORE_OUTPUTS, Event.SUCCEEDED, _to(State.STORING, Effect.KEEP_OUTPUTS)),
    **_from(BEFORE_OUTPUTS, Event.TRAINED, _to(State.COMPLETED, Effect.KEEP_MODEL)),
    **_from(BEFORE_OUTPUTS, Event.PROVIDER_FAILED, _failure("provider_failed")),
    **_from(BEFORE_OUTPUTS, Event.PROVIDER_REJECTED, _failure("provider_rejected")),
    **_from((State.ADMITTED, State.QUEUED), Event.CANCEL_REQUESTED, _failure("cancelled", State.CANCELLED)),
    (State.SUBMITTING, Event.CANCEL_REQUESTED): _to(State.SUBMITTING, Effect.STOP_RUN),
    (State.RUNNING, Event.CANCEL_REQUESTED): _to(State.RUNNING, Effect.STOP_RUN),
    **_from(BEFORE_OUTPUTS, Event.CANCELED, _failure("cancelled", State.CANCELLED)),
    **_from(UNFINISHED, Event.EXPIRED, _failure("expired")),
    (State.STORING, Event.STORED): _to(State.COMPLETED, Effect.REFUND_MISSING),
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
