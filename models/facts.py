"""Facts that services publish about work outside: the provider's predictions and the stored pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from models.requests import Id, Unreadable, read_object

PREDICTION_BYTES_MAX = 48 * 1024
OUTPUT_URL_CHARACTERS_MAX = 2000

# What a row can hold: PostgreSQL's text has no NUL, and its integers have bounds.
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*\Z", max_length=1024)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class PredictionUpdated(msgspec.Struct, frozen=True, omit_defaults=True):
    """predictions.updated.v1: what the provider (or a deadline) says of a request's prediction.

    `prediction` is the provider's body, shortened to fit (`shortened_prediction`).
    """

    request_id: Id
    user_id: Id
    status: str
    source: Literal["webhook", "reconciler", "dispatcher", "deadline"]
    prediction_id: Text | None = None
    prediction: dict[str, Any] = {}

    def output_urls(self) -> list[str]:
        """The URLs of the outputs, in order; the provider sends one string, a list or nothing.

        An output that has none keeps its place, as an empty string; empty when no output has one.
        """
        output = self.prediction.get("output")
        if isinstance(output, str):
            output = [output]
        urls = [url if isinstance(url, str) else "" for url in output] if isinstance(output, list) else []
        return urls if any(urls) else []

    def event_id(self) -> str:
        """The same prediction in the same status is the same fact, whoever saw it."""
        return f"{self.user_id}/{self.request_id}/prediction/{self.prediction_id or '-'}/{self.status}"


class StoredImage(msgspec.Struct, frozen=True):
    """One picture or video in our storage. `bytes` is its size; a video's `thumbnail_key` is empty, and its width and
    height are 0 where the file does not say."""

    output_index: Annotated[int, msgspec.Meta(ge=0, le=100)]
    key: Text
    thumbnail_key: Text
    width: Pixels
    height: Pixels
    content_type: Text
    bytes: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    sha256: Text


class MissingImage(msgspec.Struct, frozen=True):
    """One output that could not be kept, and why."""

    output_index: Annotated[int, msgspec.Meta(ge=0, le=100)]
    reason: Text


class ImagesStored(msgspec.Struct, frozen=True):
    """images.stored.v1: the pictures of a request that are safe, and those that are lost."""

    request_id: Id
    user_id: Id
    prediction_id: Text
    images: list[StoredImage]
    missing: list[MissingImage] = []

    def event_id(self) -> str:
        """A request's pictures are stored once."""
        return f"{self.user_id}/{self.request_id}/stored"


_KEPT = ("id", "status", "output", "error", "created_at", "started_at", "completed_at", "metrics", "model", "version")


def shortened_prediction(body: dict[str, Any]) -> dict[str, Any]:
    """The parts of the provider's body that are worth keeping, within PREDICTION_BYTES_MAX; logs and input are not."""
    kept = {name: body[name] for name in _KEPT if name in body}
    if isinstance(kept.get("error"), str):
        kept["error"] = kept["error"][:2000]
    if len(msgspec.json.encode(kept)) > PREDICTION_BYTES_MAX:
        # What succeeded must stay a success: addresses and a version are kept, pictures written into the body are not.
        output = kept.get("output")
        version = output.get("version") if isinstance(output, dict) else None
        urls = output if isinstance(output, list) else [output]
        kept = {
            "id": str(kept.get("id", ""))[:128],
            "status": str(kept.get("status", ""))[:32],
            "output": [
                url if isinstance(url, str) and len(url) <= OUTPUT_URL_CHARACTERS_MAX else None for url in urls[:16]
            ],
        }
        if isinstance(version, str):
            kept["output"] = {"version": version[:OUTPUT_URL_CHARACTERS_MAX]}
    return kept


_prediction_decoder = msgspec.json.Decoder(PredictionUpdated)
_stored_decoder = msgspec.json.Decoder(ImagesStored)


def read_prediction(value: bytes | None) -> PredictionUpdated | Unreadable:
    """Read one record of predictions.updated.v1. Never raises."""
    return _read(_prediction_decoder, value)  # type: ignore[return-value]


def read_stored(value: bytes | None) -> ImagesStored | Unreadable:
    """Read one record of images.stored.v1. Never raises."""
    return _read(_stored_decoder, value)  # type: ignore[return-value]


def _read(decoder: msgspec.json.Decoder[Any], value: bytes | None) -> object:
    try:
        return decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        body = read_object(value)
        return body if isinstance(body, Unreadable) else Unreadable("bad_fact", str(error))
