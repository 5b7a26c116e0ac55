"""The gallery: stored pictures and videos become rows and the request completes; what is missing is given back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from models.accounts import output_refund_reference
from models.facts import ImagesStored, StoredImage
from models.lifecycle import Event, transition
from models.operations import OPERATIONS
from models.outputs import EventStamp, Output, Record, Rfc3339, dead_letter, rfc3339
from models.pictures import VIDEO_TYPES
from models.requests import OperationName, Unreadable
from models.settlement import Dead, Ended, Facts, Generation, Nothing, Refund, SettlementRenderer, refund, refund_all
from models.settlement import Effects as Settlement
from models.topics import COMPLETED


class Completed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """All that could be kept is in the gallery. `images_url` is what a key was appended to for its address then."""

    operation: str
    cost: int
    requested_at_ms: int
    refunds: list[Refund]
    images_url: str
    traceparent: str | None = None


Decision = Completed | Ended | Nothing | Dead
Input = ImagesStored | Unreadable


class GalleryRow(msgspec.Struct, frozen=True):
    """A row of ai_images, or of videos."""

    image_id: str
    user_id: str
    request_id: str
    prediction_id: str
    output_index: int
    operation: str
    source: str
    prompt: str
    image: StoredImage

    @property
    def is_video(self) -> bool:
        """Which of the two tables is its own."""
        return self.image.content_type in VIDEO_TYPES


@dataclass(slots=True)
class Effects:
    """Rows for the gallery, beside what settling changes."""

    settlement: Settlement = field(default_factory=Settlement)
    completed: list[tuple[Generation, ImagesStored]] = field(default_factory=list)
    rows: list[GalleryRow] = field(default_factory=list)


def image_id(prediction_id: str, output_index: int) -> str:
    """A picture's or video's name for ever: a prediction's output has one row."""
    return f"{prediction_id}-{output_index}"


def decide(inputs: Sequence[Input], facts: Facts, images_url: str) -> tuple[list[Decision], Effects]:
    """Complete a batch in stream order; `facts` are changed in place."""
    effects = Effects()
    return [_decide_one(fact, facts, effects, images_url) for fact in inputs], effects


def _decide_one(fact: Input, facts: Facts, effects: Effects, images_url: str) -> Decision:
    if isinstance(fact, Unreadable):
        return Dead(fact.reason, fact.error)
    generation = facts.generations.get((fact.user_id, fact.request_id))
    if generation is None:
        return Dead("unknown_request", f"no request {fact.request_id} of {fact.user_id} was admitted")
    led = transition(generation.state, Event.STORED if fact.images else Event.OUTPUTS_LOST)
    if led is None or generation.prediction_id != fact.prediction_id:
        return Nothing()
    generation.state = led.state
    effects.settlement.generations[fact.user_id, fact.request_id] = generation
    if led.refunds:
        generation.reason = led.reason
        given_back = refund_all(generation, facts.accounts, effects.settlement)
        return Ended(generation.operation, led.reason, given_back, generation.traceparent)
    refunds = _refund_missing(fact, generation, facts, effects.settlement)
    effects.completed.append((generation, fact))
    effects.rows.extend(_row(generation, fact, image) for image in fact.images)
    return Completed(
        generation.operation,
        generation.cost,
        generation.admitted_at_ms,
        refunds,
        images_url,
        generation.traceparent,
    )


def _refund_missing(fact: ImagesStored, generation: Generation, facts: Facts, settlement: Settlement) -> list[Refund]:
    refunds = []
    per_output = OPERATIONS[generation.operation].cost_per_output
    for missing in fact.missing:
        reference_id = output_refund_reference(fact.user_id, fact.request_id, missing.output_index)
        amount = min(per_output, generation.cost - generation.refunded)
        given_back = refund(generation, amount, reference_id, facts.accounts, settlement)
        if given_back is not None:
            refunds.append(given_back)
    return refunds


def _row(generation: Generation, fact: ImagesStored, image: StoredImage) -> GalleryRow:
    return GalleryRow(
        image_id(fact.prediction_id, image.output_index),
        fact.user_id,
        fact.request_id,
        fact.prediction_id,
        image.output_index,
        generation.operation,
        OPERATIONS[generation.operation].source,
        generation.prompt,
        image,
    )


class CompletedImage(msgspec.Struct, frozen=True):
    """One picture or video as dashboards see it; a video has no thumbnail, and its `thumbnail_url` is empty."""

    image_id: str
    url: str
    thumbnail_url: str
    width: int
    height: int
    content_type: str
    bytes: int
    sha256: str


class GenerationCompleted(msgspec.Struct, frozen=True):
    """generations.completed.v1"""

    request_id: str
    user_id: str
    operation: OperationName
    prediction_id: str
    images: list[CompletedImage]
    cost: int
    refunded: int
    requested_at: Rfc3339
    completed_at: Rfc3339


_encode = msgspec.json.Encoder().encode
_stamp = EventStamp(COMPLETED, "gallery")
_renderer = SettlementRenderer("gallery")


def render(records: Sequence[Record], inputs: Sequence[Input], decisions: Sequence[Decision]) -> list[Output]:
    """The events of these decisions."""
    outputs: list[Output] = []
    for record, fact, decision in zip(records, inputs, decisions, strict=True):
        if isinstance(decision, Dead):
            outputs.append(dead_letter(record, decision.reason, decision.error))
        elif isinstance(decision, Ended) and isinstance(fact, ImagesStored):
            outputs.extend(_renderer.failed(fact.user_id, fact.request_id, decision))
        elif isinstance(decision, Completed) and isinstance(fact, ImagesStored):
            outputs.append(_render_completed(record, fact, decision))
            outputs.extend(
                _renderer.refunded(fact.user_id, given_back, decision.traceparent) for given_back in decision.refunds
            )
    return outputs


def _render_completed(record: Record, fact: ImagesStored, decision: Completed) -> Output:
    images = [
        CompletedImage(
            image_id(fact.prediction_id, image.output_index),
            decision.images_url + image.key,
            decision.images_url + image.thumbnail_key if image.thumbnail_key else "",
            image.width,
            image.height,
            image.content_type,
            image.bytes,
            image.sha256,
        )
        for image in fact.images
    ]
    event = GenerationCompleted(
        fact.request_id,
        fact.user_id,
        decision.operation,
        fact.prediction_id,
        images,
        decision.cost,
        sum(given_back.amount for given_back in decision.refunds),
        rfc3339(decision.requested_at_ms),
        rfc3339(record.timestamp),
    )
    headers = _stamp.headers(f"{fact.user_id}/{fact.request_id}/completed", decision.traceparent)
    return (COMPLETED, fact.user_id.encode(), _encode(event), headers)
