"""Training: what a user's own model is, where it comes from, and which of two trainings counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from models.outputs import EventStamp, Output, Rfc3339, rfc3339
from models.requests import OperationName, Options
from models.topics import COMPLETED

_VERSION = re.compile(r"([\w.-]{1,128}/[\w.-]{1,128}:)?[\w.-]{1,128}\Z", re.ASCII)


class UserModel(msgspec.Struct, frozen=True):
    """A row of user_models. `version` is the provider's reference: `owner/name:version` or a version alone."""

    user_id: str
    version: str
    trigger_word: str
    request_id: str
    admitted_at_ms: int

    @property
    def order(self) -> tuple[int, str]:
        """Of two trainings of a user the one that was admitted later counts, whichever ends first."""
        return (self.admitted_at_ms, self.request_id)


class Trained(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The training has succeeded: all that its completion needs."""

    operation: str
    prediction_id: str
    version: str
    trigger_word: str
    cost: int
    requested_at_ms: int
    traceparent: str | None = None


def trigger_word_of(user_id: str, request_id: str, options: Options) -> str:
    """The word that will call the model: the user's, or one that no other training has."""
    if options.trigger_word is not None:
        return options.trigger_word
    return "TOK" + hashlib.sha256(f"{user_id}/{request_id}".encode()).hexdigest()[:10].upper()


def version_trained(body: Mapping[str, Any]) -> str | None:
    """The version that a training's body says it has made; None when there is none that could be used."""
    output = body.get("output")
    version = output.get("version") if isinstance(output, dict) else None
    return version if isinstance(version, str) and _VERSION.match(version) else None


class CompletedModel(msgspec.Struct, frozen=True):
    """The `model` of generations.completed.v1."""

    version: str
    trigger_word: str


class TrainingCompleted(msgspec.Struct, frozen=True):
    """generations.completed.v1 of a training: a model and no pictures."""

    request_id: str
    user_id: str
    operation: OperationName
    prediction_id: str
    images: tuple[()]
    model: CompletedModel
    cost: int
    refunded: int
    requested_at: Rfc3339
    completed_at: Rfc3339


_encode = msgspec.json.Encoder().encode
_stamp = EventStamp(COMPLETED, "settle")


def render_completed(user_id: str, request_id: str, trained: Trained, completed_at_ms: int) -> Output:
    """The event of a training that has succeeded."""
    event = TrainingCompleted(
        request_id,
        user_id,
        trained.operation,
        trained.prediction_id,
        (),
        CompletedModel(trained.version, trained.trigger_word),
        trained.cost,
        0,
        rfc3339(trained.requested_at_ms),
        rfc3339(completed_at_ms),
    )
    headers = _stamp.headers(f"{user_id}/{request_id}/completed", trained.traceparent)
    return (COMPLETED, user_id.encode(), _encode(event), headers)
