"""Settling: what a fact about a prediction makes of its request, and what is given back.

`decide` walks the lifecycle table; its decisions hold all that `render` needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from models.accounts import Account, Cause, CreditsChanged, LedgerEntry, charge_reference, credits_changed
from models.facts import PredictionUpdated
from models.lifecycle import ENDED, Effect, Event, State, Transition, event_of_status, transition
from models.operations import Kind, kind_of
from models.outputs import EventStamp, Output, Record, dead_letter
from models.provider_work import collection_of
from models.requests import OperationName, Options, Unreadable
from models.topics import CREDITS, FAILED
from models.training import Trained, UserModel, render_completed, trigger_word_of, version_trained

MESSAGES = {
    "provider_failed": "The {thing} could not be made.",
    "provider_rejected": "The provider refused this request.",
    "outputs_lost": "The {thing} was made but could not be kept.",
    "expired": "The {thing} took too long.",
    "cancelled": "The request was cancelled.",
}
NO_OPTIONS = Options()
THINGS = {Kind.IMAGES: "picture", Kind.VIDEO: "video", Kind.TRAINING: "model"}


@dataclass(slots=True)
class Generation:
    """The parts of a generations row that settling reads and changes. `refunded` is in credits."""

    user_id: str
    request_id: str
    operation: str
    state: State
    cost: int
    refunded: int
    prediction_id: str | None
    prompt: str
    admitted_at_ms: int
    options: Options = NO_OPTIONS
    output_urls: list[str] | None = None
    reason: str | None = None
    traceparent: str | None = None


class Refund(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One refund entry as its event needs it."""

    reference_id: str
    amount: int
    balance: int
    version: int
    unlimited: bool


class Moved(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The request went on to another state that is nobody's news."""


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The request failed or was cancelled; `refund` is absent when nothing was charged."""

    operation: str
    reason: str
    refund: Refund | None
    traceparent: str | None = None


class Nothing(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The fact came twice, late, out of order or for another prediction: it changes nothing."""


class Dead(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Unreadable, or about a request that was never admitted."""

    reason: str
    error: str


Decision = Moved | Ended | Nothing | Dead | Trained
Input = PredictionUpdated | Unreadable


@dataclass(slots=True)
class Facts:
    """Accounts by user and generations by (user_id, request_id), as locked."""

    accounts: dict[str, Account]
    generations: dict[tuple[str, str], Generation]


class StrayRun(msgspec.Struct, frozen=True):
    """A run that nobody waits for: its request has ended without it, or has another. `collection` is the provider's."""

    prediction_id: str
    collection: str
    user_id: str
    request_id: str


@dataclass(slots=True)
class Effects:
    """Changed generations, ledger entries, accounts, the models that users have now, and runs to be stopped."""

    generations: dict[tuple[str, str], Generation] = field(default_factory=dict)
    entries: list[LedgerEntry] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)
    models: dict[str, UserModel] = field(default_factory=dict)
    strays: dict[str, StrayRun] = field(default_factory=dict)


def decide(inputs: Sequence[Input], facts: Facts) -> tuple[list[Decision], Effects]:
    """Settle a batch in stream order; `facts` are changed in place."""
    effects = Effects()
    return [_decide_one(fact, facts, effects) for fact in inputs], effects


def may_refund(fact: PredictionUpdated) -> bool:
    """Whether settling this fact can touch the user's account, which must then be locked first."""
    event = event_of_status(fact.status)
    return event not in (None, Event.STARTED) and not (event is Event.SUCCEEDED and fact.output_urls())


def _decide_one(fact: Input, facts: Facts, effects: Effects) -> Decision:
    if isinstance(fact, Unreadable):
        return Dead(fact.reason, fact.error)
    generation = facts.generations.get((fact.user_id, fact.request_id))
    if generation is None:
        return Dead("unknown_request", f"no request {fact.request_id} of {fact.user_id} was admitted")
    event = _event_behind(fact, generation)
    if event is Event.STARTED:
        _watch_for_stray(fact, generation, effects)
    if generation.prediction_id and fact.prediction_id and generation.prediction_id != fact.prediction_id:
        return Nothing()
    led = transition(generation.state, event) if event is not None else None
    if led is None:
        return Nothing()
    generation.prediction_id = generation.prediction_id or fact.prediction_id
    generation.state = led.state
    effects.generations[fact.user_id, fact.request_id] = generation
    if Effect.KEEP_OUTPUTS in led.effects:
        generation.output_urls = fact.output_urls()
    if Effect.KEEP_MODEL in led.effects:
        return _keep_model(generation, version_trained(fact.prediction) or "", effects)
    if not led.refunds:
        return Moved()
    return end(generation, led, facts.accounts, effects)


def _watch_for_stray(fact: PredictionUpdated, generation: Generation, effects: Effects) -> None:
    """Such as a creation that was so long on its way that the request was given up or tried again."""
    is_its_own = fact.prediction_id == generation.prediction_id
    if fact.prediction_id and not is_its_own and (generation.prediction_id or generation.state in ENDED):
        collection = collection_of(generation.operation)
        stray = StrayRun(fact.prediction_id, collection, generation.user_id, generation.request_id)
        effects.strays[stray.prediction_id] = stray


def _event_behind(fact: PredictionUpdated, generation: Generation) -> Event | None:
    """A success that has made nothing is a failure."""
    event = event_of_status(fact.status)
    if event is not Event.SUCCEEDED:
        return event
    if kind_of(generation.operation) is Kind.TRAINING:
        return Event.TRAINED if version_trained(fact.prediction) else Event.PROVIDER_FAILED
    return Event.SUCCEEDED if fact.output_urls() else Event.PROVIDER_FAILED


def _keep_model(generation: Generation, version: str, effects: Effects) -> Trained:
    trigger_word = trigger_word_of(generation.user_id, generation.request_id, generation.options)
    model = UserModel(generation.user_id, version, trigger_word, generation.request_id, generation.admitted_at_ms)
    effects.models[model.user_id] = max(model, effects.models.get(model.user_id, model), key=lambda one: one.order)
    return Trained(
        generation.operation,
        generation.prediction_id or "",
        version,
        trigger_word,
        generation.cost,
        generation.admitted_at_ms,
        generation.traceparent,
    )


def end(generation: Generation, led: Transition, accounts: dict[str, Account], effects: Effects) -> Ended:
    """A request that ends without what was asked for, and gets its credits back."""
    generation.reason = led.reason
    given_back = refund_all(generation, accounts, effects)
    return Ended(generation.operation, led.reason, given_back, generation.traceparent)


def refund_all(generation: Generation, accounts: dict[str, Account], effects: Effects) -> Refund | None:
    """Give back what a request cost and was not given back yet."""
    reference_id = charge_reference(generation.user_id, generation.request_id)
    return refund(generation, generation.cost - generation.refunded, reference_id, accounts, effects)


def refund(
    generation: Generation, amount: int, reference_id: str, accounts: dict[str, Account], effects: Effects
) -> Refund | None:
    """Book one refund. Unlimited users were not charged, so they have nothing to get back."""
    if amount <= 0:
        return None
    account = accounts[generation.user_id]
    effects.entries.append(account.move(amount, "refund", reference_id))
    effects.accounts[account.user_id] = account
    generation.refunded += amount
    return Refund(reference_id, amount, account.balance, account.version, account.unlimited)


class GenerationFailed(msgspec.Struct, frozen=True):
    """generations.failed.v1"""

    request_id: str
    user_id: str
    operation: OperationName
    reason: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(MESSAGES)})]
    message: str
    refunded: int


_encode = msgspec.json.Encoder().encode


def message_of(reason: str, operation: str) -> str:
    """Why a request ended without its outputs, as a sentence that a product can show."""
    return MESSAGES[reason].format(thing=THINGS[kind_of(operation)])


class SettlementRenderer:
    """Renders endings and refunds under the name of the agent that made them."""

    def __init__(self, source: str) -> None:
        self._failed = EventStamp(FAILED, source)
        self._credits = EventStamp(CREDITS, source)

    def failed(self, user_id: str, request_id: str, decision: Ended) -> list[Output]:
        """The failure and, if there was a refund, the new balance."""
        refunded = decision.refund.amount if decision.refund else 0
        message = message_of(decision.reason, decision.operation)
        event = GenerationFailed(request_id, user_id, decision.operation, decision.reason, message, refunded)
        key = user_id.encode()
        headers = self._failed.headers(f"{user_id}/{request_id}/failed", decision.traceparent)
        outputs: list[Output] = [(FAILED, key, _encode(event), headers)]
        if decision.refund:
            outputs.append(self.refunded(user_id, decision.refund, decision.traceparent))
        return outputs

    def refunded(self, user_id: str, refund: Refund, traceparent: str | None) -> Output:
        """The new balance after a refund."""
        cause = Cause("refund", refund.reference_id, refund.amount)
        event = CreditsChanged(user_id, refund.balance, refund.version, refund.unlimited, cause)
        return credits_changed(self._credits, user_id.encode(), event, traceparent)


_renderer = SettlementRenderer("settle")


def render(records: Sequence[Record], inputs: Sequence[Input], decisions: Sequence[Decision]) -> list[Output]:
    """The events of these decisions."""
    outputs: list[Output] = []
    for record, fact, decision in zip(records, inputs, decisions, strict=True):
        if isinstance(decision, Dead):
            outputs.append(dead_letter(record, decision.reason, decision.error))
        elif isinstance(decision, Ended) and isinstance(fact, PredictionUpdated):
            outputs.extend(_renderer.failed(fact.user_id, fact.request_id, decision))
        elif isinstance(decision, Trained) and isinstance(fact, PredictionUpdated):
            outputs.append(render_completed(fact.user_id, fact.request_id, decision, record.timestamp))
    return outputs
