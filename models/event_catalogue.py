"""The catalogue of events: what the value of each topic's records is. What models/topics.py does not say of a topic.

Documents and tests are made from it (models/asyncapi.py), and nothing that runs depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from models.accounts import CreditsChanged
from models.answers import GenerationAdmitted, GenerationRejected
from models.cancelling import CancelRequested
from models.event_examples import EXAMPLES, Example
from models.facts import ImagesStored, PredictionUpdated
from models.gallery import GenerationCompleted
from models.grants import Grant
from models.limits import LimitsChanged
from models.requests import Request
from models.settlement import GenerationFailed
from models.topics import (
    ADMITTED,
    CANCEL_REQUESTED,
    COMPLETED,
    CREDITS,
    DEAD_LETTERS,
    FAILED,
    GRANTED,
    LIMITS,
    PREDICTIONS,
    REJECTED,
    REQUESTED,
    STORED,
    TOPICS,
)
from models.training import TrainingCompleted

OUTSIDE = ("producers", "dashboards", "operators")
"""Writers and readers that are not Darkroom."""


@dataclass(frozen=True)
class EventType:
    """One kind of event. `values` are the types of its value; empty for bytes that are nobody's type.

    `event_id` is the form of `ce_id`, its names being fields of the value or of the record that caused it; None for
    events that come without headers. `sources` are the last parts of `ce_source`.
    """

    topic: str
    summary: str
    values: tuple[type[msgspec.Struct], ...]
    event_id: str | None = None
    sources: tuple[str, ...] = ()

    @property
    def examples(self) -> Mapping[str, Example]:
        """Realistic values by case."""
        return EXAMPLES[self.topic]

    @property
    def may_be_empty(self) -> bool:
        """Whether a record without a value has a meaning: that nothing is said of its key any more."""
        return TOPICS[self.topic].compacted


def _ours(topic: str, summary: str, event_id: str, *values: type[msgspec.Struct]) -> EventType:
    """An event of our own, under the name of whichever of its topic's writers made it."""
    return EventType(topic, summary, values, event_id, tuple(w for w in TOPICS[topic].writers if w not in OUTSIDE))


_ABOUT = "{user_id}/{request_id}"

CATALOGUE: Mapping[str, EventType] = {
    event.topic: event
    for event in (
        EventType(REQUESTED, "Somebody asks for pictures, a video or a model.", (Request,)),
        _ours(ADMITTED, "A request is within its limit and charged.", f"{_ABOUT}/admitted", GenerationAdmitted),
        _ours(
            REJECTED,
            "A request is refused; why, and when to try again.",
            _ABOUT + "/rejected/{partition}-{offset}",
            GenerationRejected,
        ),
        _ours(
            PREDICTIONS,
            "What the provider, or a deadline, says of a request's run.",
            _ABOUT + "/prediction/{prediction_id}/{status}",
            PredictionUpdated,
        ),
        _ours(STORED, "A request's outputs are in our storage, or lost.", f"{_ABOUT}/stored", ImagesStored),
        _ours(
            COMPLETED,
            "A request has ended with what was asked for; a training with a model and no pictures.",
            f"{_ABOUT}/completed",
            GenerationCompleted,
            TrainingCompleted,
        ),
        _ours(FAILED, "A request has ended without, and is refunded.", f"{_ABOUT}/failed", GenerationFailed),
        EventType(CANCEL_REQUESTED, "A user does not want a request any more.", (CancelRequested,)),
        EventType(GRANTED, "Credits are given; booked once by grant_id and kind.", (Grant,)),
        _ours(CREDITS, "A balance has changed; order by version.", "{user_id}/credits/{version}", CreditsChanged),
        EventType(LIMITS, "A policy as it is from now on.", (LimitsChanged,), "{policy}/{change}", ("limits",)),
        EventType(DEAD_LETTERS, "A record that could not be handled, byte for byte.", ()),
    )
}
