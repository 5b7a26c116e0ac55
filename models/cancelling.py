"""Cancelling: what a user's wish to stop makes of a request, by the state it is found in.

Before a run can exist the request ends at once. While one may exist only the wish is written down: whoever learns of
the run has it stopped, and the provider's word ends the request. After the run the wish comes too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from models.lifecycle import Effect, Event, transition
from models.outputs import Output, Record, dead_letter
from models.requests import Id, Unreadable, read_object
from models.routing import Forwarded, Misrouted, forwarded
from models.settlement import Dead, Ended, Facts, Nothing, SettlementRenderer, end
from models.settlement import Effects as Settlement
from models.topics import CANCEL_REQUESTED


class CancelRequested(msgspec.Struct, frozen=True):
    """generations.cancel_requested.v1"""

    request_id: Id
    user_id: Id


class Stopping(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The run is to be stopped at the provider."""


Decision = Ended | Stopping | Nothing | Dead | Forwarded
Input = CancelRequested | Misrouted | Unreadable


@dataclass(slots=True)
class Effects:
    """What settling changes, and the requests whose runs are to be stopped, as (user_id, request_id)."""

    settlement: Settlement = field(default_factory=Settlement)
    stopping: set[tuple[str, str]] = field(default_factory=set)


_decoder = msgspec.json.Decoder(CancelRequested)
_renderer = SettlementRenderer("cancel")


def read_cancel(key: bytes | None, value: bytes | None) -> CancelRequested | Unreadable:
    """Read one record of generations.cancel_requested.v1. Never raises."""
    try:
        wish = _decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        body = read_object(value)
        return body if isinstance(body, Unreadable) else Unreadable("bad_cancel", str(error))
    if key != wish.user_id.encode():
        return Unreadable("wrong_key", "the record's key must be the user_id")
    return wish


def decide(inputs: Sequence[Input], facts: Facts) -> tuple[list[Decision], Effects]:
    """Cancel in stream order; `facts` are changed in place."""
    effects = Effects()
    return [_decide_one(wish, facts, effects) for wish in inputs], effects


def _decide_one(wish: Input, facts: Facts, effects: Effects) -> Decision:
    if isinstance(wish, Unreadable):
        return Dead(wish.reason, wish.error)
    if isinstance(wish, Misrouted):
        return Forwarded()
    identity = (wish.user_id, wish.request_id)
    generation = facts.generations.get(identity)
    if generation is None:
        return Dead("unknown_request", f"no request {wish.request_id} of {wish.user_id} was admitted")
    led = transition(generation.state, Event.CANCEL_REQUESTED)
    if led is None:
        return Nothing()
    if Effect.STOP_RUN in led.effects:
        effects.stopping.add(identity)
        return Stopping()
    generation.state = led.state
    effects.settlement.generations[identity] = generation
    return end(generation, led, facts.accounts, effects.settlement)


def render(records: Sequence[Record], inputs: Sequence[Input], decisions: Sequence[Decision]) -> list[Output]:
    """The events of these decisions."""
    outputs: list[Output] = []
    for record, wish, decision in zip(records, inputs, decisions, strict=True):
        if isinstance(decision, Dead):
            outputs.append(dead_letter(record, decision.reason, decision.error))
        elif isinstance(decision, Forwarded):
            outputs.append(forwarded(CANCEL_REQUESTED, record))
        elif isinstance(decision, Ended) and isinstance(wish, CancelRequested):
            outputs.extend(_renderer.failed(wish.user_id, wish.request_id, decision))
    return outputs
