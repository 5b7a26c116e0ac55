"""docs/lifecycle.md, written from the lifecycle table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from models.lifecycle import ENDED, TRANSITIONS, Effect, Event, State, Transition

STATES: dict[State, str] = {
    State.ADMITTED: "charged, and not yet in the queue",
    State.QUEUED: "waits for the dispatcher; nothing runs",
    State.SUBMITTING: "a run may have been created",
    State.RUNNING: "the provider has said that it runs",
    State.STORING: "the provider has succeeded; the keeper copies the outputs",
    State.COMPLETED: "delivered, whole or in part",
    State.FAILED: "not delivered, given back",
    State.CANCELLED: "not wanted any more, given back",
}
EVENTS: dict[Event, str] = {
    Event.QUEUED: "generate has seen the admission",
    Event.SUBMITTED: "the dispatcher has committed its intent to create a run",
    Event.HANDED_BACK: "it is certain that no run was created",
    Event.STARTED: "a run exists; from a state that knows of none, it is adopted",
    Event.SUCCEEDED: "the run has outputs",
    Event.TRAINED: "the training has a version",
    Event.PROVIDER_FAILED: "the run has failed, or has succeeded with nothing to show",
    Event.PROVIDER_REJECTED: "the provider will never do it",
    Event.CANCEL_REQUESTED: "the user does not want it any more",
    Event.CANCELED: "the run was stopped, or the wish to stop was met without one",
    Event.EXPIRED: "the operation's deadline has passed",
    Event.STORED: "at least one output is in our storage",
    Event.OUTPUTS_LOST: "no output could be kept",
}
EFFECTS: dict[Effect, str] = {
    Effect.REFUND: "the whole cost is given back",
    Effect.REFUND_MISSING: "what each missing output has cost is given back",
    Effect.KEEP_OUTPUTS: "the outputs' addresses go to the keeper",
    Effect.KEEP_MODEL: "the model becomes the user's, unless a later training has made one",
    Effect.STOP_RUN: "the run is cancelled at the provider as soon as its id is known",
}

_HEAD = """\
# The life of an admitted request

Written from the table in `models/lifecycle.py` by `python -m cli.documents`; a test says when it differs.

Every request ends in exactly one of completed, failed and cancelled. An event that a state does not expect changes
nothing, so facts may come twice, late or out of order.
"""


def document() -> str:
    """The whole file."""
    parts = [_HEAD, _diagram(), _transitions(), _glossary("state", STATES), _glossary("event", EVENTS)]
    return "\n".join([*parts, _glossary("effect", EFFECTS)])


def _diagram() -> str:
    """One arrow for each pair of states, with all events that lead along it."""
    arrows: dict[tuple[State, State], list[Event]] = {}
    for (state, event), led in TRANSITIONS.items():
        arrows.setdefault((state, led.state), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.ADMITTED}"]
    for (start, end), events in sorted(arrows.items(), key=_place):
        lines.append(f"    {start} --> {end}: {', '.join(events)}")
    lines += [f"    {state} --> [*]" for state in ENDED]
    return "\n".join([*lines, "```", ""])


def _place(arrow: tuple[tuple[State, State], list[Event]]) -> tuple[int, int]:
    order = list(State)
    return order.index(arrow[0][0]), order.index(arrow[0][1])


def _transitions() -> str:
    return _table(("in state", "event", "leads to", "and", "reason"), _rows())


def _rows() -> Iterator[tuple[str, ...]]:
    states, events = list(State), list(Event)
    in_order = sorted(TRANSITIONS.items(), key=lambda entry: (states.index(entry[0][0]), events.index(entry[0][1])))
    for (state, event), led in in_order:
        yield (state, event, led.state, _effects_of(led), led.reason)


def _effects_of(led: Transition) -> str:
    return ", ".join(effect for effect in Effect if effect in led.effects)


def _glossary(what: str, meanings: Mapping[Any, str]) -> str:
    return _table((what, "meaning"), meanings.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, ""])
