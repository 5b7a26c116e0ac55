"""One realistic event of every kind that consumers will meet, by topic and case: for documents and for tests."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from models.accounts import Cause, CreditsChanged
from models.answers import GenerationAdmitted, GenerationRejected
from models.cancelling import CancelRequested
from models.facts import ImagesStored, MissingImage, PredictionUpdated, StoredImage
from models.gallery import CompletedImage, GenerationCompleted
from models.grants import Grant
from models.limits import LimitsChanged
from models.operations import Mode
from models.requests import Context, FieldError, Options, Request
from models.settlement import MESSAGES, GenerationFailed
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
)
from models.training import CompletedModel, TrainingCompleted

Example = msgspec.Struct | bytes

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_PICTURES = "https://pictures.example/v1/images/"
_KEY, _THUMBNAIL = f"images/9f/{_SHA256}.jpg", f"thumbnails/9f/{_SHA256}.webp"
_VIDEO = f"videos/9f/{_SHA256}.mp4"
_ASKED, _DONE = "2026-01-31T08:15:30.123Z", "2026-01-31T08:15:38.020Z"
_MAYA = ("req-7f3a", "ada", "maya.image")
_STUDIO = ("req-91c0", "ada", "studio.images")
_ANIMATION = ("req-b2e4", "ben", "video.animation")
_TRAINING = ("req-c5d1", "cleo", "training.model")
_PROVIDER_URL = "https://replicate.delivery/xezq/out-0.jpg"


def _kept(index: int) -> StoredImage:
    return StoredImage(index, _KEY, _THUMBNAIL, 896, 1120, "image/jpeg", 183_204, _SHA256)


def _shown(index: int) -> CompletedImage:
    urls = (_PICTURES + _KEY, _PICTURES + _THUMBNAIL)
    return CompletedImage(f"pq7x2-{index}", *urls, 896, 1120, "image/jpeg", 183_204, _SHA256)


def _rejected(reason: str, message: str, **more: object) -> GenerationRejected:
    return GenerationRejected(*_MAYA, reason, message, **more)  # type: ignore[arg-type]


def _failed(about: tuple[str, str, str], reason: str, thing: str, refunded: int) -> GenerationFailed:
    return GenerationFailed(*about, reason, MESSAGES[reason].format(thing=thing), refunded)


EXAMPLES: Mapping[str, Mapping[str, Example]] = {
    REQUESTED: {
        "picture": Request(*_MAYA, "a quiet harbour at dawn"),
        "set": Request(*_STUDIO, "headshot in a linen jacket", Options(num_outputs=4, aspect_ratio="1:1", seed=7)),
        "feed": Request("req-0d4f", "ada", "feed.post", "a market in the rain", context=Context("feed-12", 3)),
        "video": Request(*_ANIMATION, "the boat leaves", Options(image_url=_PICTURES + _KEY)),
        "training": Request(
            *_TRAINING,
            "a portrait",
            Options(images=tuple(f"https://uploads.example/{n}.jpg" for n in range(1, 6)), trigger_word="CLEO"),
        ),
    },
    ADMITTED: {
        "picture": GenerationAdmitted(*_MAYA, "a quiet harbour at dawn", Options(), 1, 19, 4, _ASKED),
        "feed": GenerationAdmitted(
            "req-0d4f", "ada", "feed.post", "a market in the rain", Options(), 1, 18, 5, _ASKED, Context("feed-12", 3)
        ),
    },
    REJECTED: {
        "rate_limited": _rejected(
            "rate_limited",
            "Too many image generation requests. Try again in 13 s.",
            policy="maya.image",
            limit=30,
            window_s=60,
            remaining=0,
            retry_after_s=12.4,
        ),
        "too_many_in_flight": _rejected(
            "rate_limited",
            "You have 2 image generation requests under way. Try again when one is done.",
            policy="maya.image",
            limit=30,
            window_s=60,
            remaining=28,
            retry_after_s=5.0,
            max_in_flight=2,
        ),
        "insufficient_credits": _rejected(
            "insufficient_credits", "This needs 1 credit and you have 0.", required=1, current=0
        ),
        "invalid": _rejected("invalid", "prompt: is required", errors=[FieldError("prompt", "is required")]),
        "conflict": _rejected("conflict", "This request id was used before for something else."),
    },
    PREDICTIONS: {
        "started": PredictionUpdated("req-7f3a", "ada", "starting", "dispatcher", "pq7x2", {"id": "pq7x2"}),
        "succeeded": PredictionUpdated("req-7f3a", "ada", "succeeded", "webhook", "pq7x2", {"output": [_PROVIDER_URL]}),
        "failed": PredictionUpdated("req-7f3a", "ada", "failed", "reconciler", "pq7x2", {"error": "out of memory"}),
        "refused": PredictionUpdated("req-7f3a", "ada", "rejected", "dispatcher", None, {"error": "unknown model"}),
        "expired": PredictionUpdated("req-7f3a", "ada", "expired", "deadline"),
    },
    STORED: {
        "picture": ImagesStored("req-7f3a", "ada", "pq7x2", [_kept(0)]),
        "short_set": ImagesStored(
            "req-91c0",
            "ada",
            "pq7x2",
            [_kept(0), _kept(2)],
            [MissingImage(1, "gone"), MissingImage(3, "corrupt_image")],
        ),
        "video": ImagesStored(
            "req-b2e4", "ben", "pv1z8", [StoredImage(0, _VIDEO, "", 640, 360, "video/mp4", 2_048_000, _SHA256)]
        ),
    },
    COMPLETED: {
        "picture": GenerationCompleted(*_MAYA, "pq7x2", [_shown(0)], 1, 0, _ASKED, _DONE),
        "short_set": GenerationCompleted(*_STUDIO, "pq7x2", [_shown(0), _shown(2)], 4, 2, _ASKED, _DONE),
        "video": GenerationCompleted(
            *_ANIMATION,
            "pv1z8",
            [CompletedImage("pv1z8-0", _PICTURES + _VIDEO, "", 640, 360, "video/mp4", 2_048_000, _SHA256)],
            3,
            0,
            _ASKED,
            _DONE,
        ),
        "training": TrainingCompleted(
            *_TRAINING, "pt3k9", (), CompletedModel("darkroom/portraits:5c7d", "CLEO"), 25, 0, _ASKED, _DONE
        ),
    },
    FAILED: {
        "provider_failed": _failed(_MAYA, "provider_failed", "picture", 1),
        "provider_rejected": _failed(_TRAINING, "provider_rejected", "model", 25),
        "outputs_lost": _failed(_ANIMATION, "outputs_lost", "video", 3),
        "expired": _failed(_STUDIO, "expired", "picture", 4),
        "cancelled": _failed(_MAYA, "cancelled", "picture", 0),
    },
    CANCEL_REQUESTED: {"wish": CancelRequested("req-7f3a", "ada")},
    GRANTED: {
        "purchase": Grant("order-5521", "ada", 100, "purchase"),
        "subscription_grant": Grant("plan-2026-01-ada", "ada", 20, "subscription_grant"),
        "bonus": Grant("welcome-ada", "ada", 5, "bonus"),
    },
    CREDITS: {
        "charge": CreditsChanged("ada", 19, 4, False, Cause("charge", "ada/req-7f3a", -1)),
        "refund": CreditsChanged("ada", 20, 5, False, Cause("refund", "ada/req-7f3a", 1)),
        "refund_of_one_output": CreditsChanged("ada", 17, 8, False, Cause("refund", "ada/req-91c0/1", 1)),
        "grant": CreditsChanged("ada", 120, 6, False, Cause("purchase", "order-5521", 100)),
    },
    LIMITS: {
        "tighter": LimitsChanged("maya.image", 10, 60, max_in_flight=2),
        "shadow": LimitsChanged("video.animation", 10, 3600, Mode.SHADOW),
    },
    DEAD_LETTERS: {"no_json": b'{"request_id": "req-7f3a", "user'},
}
