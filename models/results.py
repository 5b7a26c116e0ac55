"""What a producer gets back: admissions, pictures and events, typed. Pure.

Read from events as they are on Kafka and in the gateway's answers; fields that are not known here are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from models.errors import Unavailable
from models.refusals import GenerationFailed, Refused, refusal
from models.topics import COMPLETED, FAILED, REJECTED


class Named(Protocol):
    """Whatever says which request it is about: a Request, an Admission, a Reference, an error of this client."""

    @property
    def user_id(self) -> str:
        """Whose it is."""

    @property
    def request_id(self) -> str:
        """Its id."""


class Reference(msgspec.Struct, frozen=True):
    """A request by its name."""

    user_id: str
    request_id: str


class Admission(msgspec.Struct, frozen=True):
    """The request is accepted and charged: `cost` credits, which leave `balance`. Times are RFC 3339 UTC.

    `version` counts the changes of the balance, so that of two balances the later one can be told.
    """

    request_id: str
    user_id: str
    operation: str
    cost: int
    balance: int
    version: int
    admitted_at: str


class Image(msgspec.Struct, frozen=True):
    """One picture or video. Sizes are in pixels and bytes; a video has no thumbnail, and `thumbnail_url` is empty."""

    url: str
    width: int
    height: int
    image_id: str = ""
    thumbnail_url: str = ""
    content_type: str = ""
    bytes: int = 0
    sha256: str = ""


class Model(msgspec.Struct, frozen=True):
    """A trained model and the word that calls it in a prompt."""

    version: str
    trigger_word: str


class Completion(msgspec.Struct, frozen=True):
    """The request is done. Of its `cost` what is missing was given back: `refunded` credits. `model`: of a training."""

    request_id: str
    user_id: str
    cost: int
    refunded: int
    images: tuple[Image, ...] = ()
    operation: str = ""
    model: Model | None = None
    requested_at: str = ""
    completed_at: str = ""


class ClientEvent(msgspec.Struct, frozen=True):
    """One event about a request. `topic` is its type, `body` its value (see the contract), `time` RFC 3339 UTC.

    `id` is the same on every copy. `position` goes into `events(position=...)` to go on after this event; it is
    opaque, and good for as long as Kafka keeps what follows.
    """

    id: str
    type: str
    topic: str
    partition: int
    offset: int
    time: str
    body: dict[str, Any]
    position: str


T = TypeVar("T")


def read_as(kind: type[T], body: object) -> T:
    """The body as one of the above. Raises Unavailable: it is something else."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise Unavailable("an answer that can be read", str(error)) from error


def refusal_of(body: Mapping[str, Any]) -> Refused:
    """The exception for a generations.rejected.v1."""
    reason = str(body.get("reason"))
    about = (str(body.get("user_id")), str(body.get("request_id")), str(body.get("message")))
    return refusal(reason, *about, body) or Refused(*about)


def completion_of(topic: str, body: Mapping[str, Any]) -> Completion:
    """What a generations.completed.v1 brings.

    Raises GenerationFailed, Refused: for a generations.failed.v1, and for a generations.rejected.v1.
    """
    if topic == REJECTED:
        raise refusal_of(body)
    if topic == FAILED:
        about = (str(body.get("user_id")), str(body.get("request_id")), str(body.get("message")))
        raise GenerationFailed(*about, reason=str(body.get("reason")), refunded=int(body.get("refunded") or 0))
    assert topic == COMPLETED
    return read_as(Completion, body)
