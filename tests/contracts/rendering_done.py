"""What services say of a request and how it ends, rendered from fixed inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.webhooks import fact_in
from models import cancelling, gallery, settlement
from models.accounts import Account
from models.cancelling import CancelRequested
from models.facts import ImagesStored, MissingImage, PredictionUpdated, StoredImage
from models.lifecycle import State
from models.provider_work import Model, Work, given_up, rejected, started, updated
from models.requests import Options
from models.routing import Forwarded, Misrouted
from models.settlement import Facts, Generation
from streams.facts import FactPublisher
from tests.contracts.fixed import AT_MS, PICTURES, PLACE, SHA256, TRACE, Case, Kept
from tests.unit.records import FakeRecord

_WORK = Work("ada", "r1", "maya.image", "a quiet harbour", Options(), Model("o/n"), prediction_id="p1")


def services() -> Iterator[Case]:
    body = {"id": "p1", "status": "succeeded", "output": [PICTURES + "0.jpg"], "created_at": "2026-01-31T08:15:31Z"}
    named: list[tuple[str, str, PredictionUpdated | ImagesStored, dict[str, Any]]] = [
        ("started", "dispatcher", started(_WORK, {"id": "p1", "status": "starting"}), {"status": "starting"}),
        ("refused", "dispatcher", rejected(_without_run(), "no such model"), {"status": "rejected"}),
        ("polled", "reconciler", updated(_WORK, body, "reconciler"), {"prediction.output": [PICTURES + "0.jpg"]}),
        ("expired", "reconciler", given_up(_WORK), {"status": "expired", "source": "deadline"}),
        ("cancelled", "reconciler", given_up(_without_run(is_cancelled=True)), {"status": "canceled"}),
        (
            "reported",
            "gateway",
            fact_in({"user": "ada", "request": "r1"}, msgspec.json.encode(body | {"status": "failed", "error": "no"})),
            {"status": "failed", "source": "webhook", "prediction.error": "no"},
        ),
        ("picture", "keeper", _stored((0,)), {"prediction_id": "p1", "images.0.sha256": SHA256}),
        ("short_set", "keeper", _stored((0, 2), (1, 3)), {"missing.0.output_index": 1, "missing.1.reason": "gone"}),
        ("nothing", "keeper", _stored((), (0,)), {"images": [], "missing.0.reason": "gone"}),
    ]
    for name, source, fact, meaning in named:
        kept = Kept()
        publisher, trace = FactPublisher(kept, source), None if source == "gateway" else TRACE
        send = publisher.prediction if isinstance(fact, PredictionUpdated) else publisher.stored
        asyncio.run(send(fact, trace))  # type: ignore[arg-type]
        yield Case(name, kept.outputs[0], {"request_id": "r1", "user_id": "ada"} | meaning)


def _without_run(**changed: Any) -> Work:
    return msgspec.structs.replace(_WORK, prediction_id=None, **changed)


def _stored(indices: Sequence[int], missing: Sequence[int] = (), video: bool = False) -> ImagesStored:
    keys = (f"videos/9f/{SHA256}.mp4", "") if video else (f"images/9f/{SHA256}.jpg", f"thumbnails/9f/{SHA256}.webp")
    shape: tuple[Any, ...] = (640, 360, "video/mp4") if video else (896, 1120, "image/jpeg")
    images = [StoredImage(index, *keys, *shape, 183_204, SHA256) for index in indices]
    return ImagesStored("r1", "ada", "p1", images, [MissingImage(index, "gone") for index in missing])


def _row(state: State, operation: str, cost: int) -> Facts:
    row = Generation("ada", "r1", operation, state, cost, 0, "p1", "me", AT_MS - 8000, traceparent=TRACE)
    return Facts({"ada": Account("ada", 10, 4)}, {("ada", "r1"): row})


_LATER = FakeRecord(b"", b"ada", **PLACE)


def endings() -> Iterator[Case]:
    about = {"request_id": "r1", "user_id": "ada"}
    for status, reason in (
        ("failed", "provider_failed"),
        ("rejected", "provider_rejected"),
        ("expired", "expired"),
        ("canceled", "cancelled"),
    ):
        fact = PredictionUpdated("r1", "ada", status, "webhook", "p1")
        decisions, _ = settlement.decide([fact], _row(State.RUNNING, "studio.images", 4))
        failed, refund = settlement.render([_LATER], [fact], decisions)
        yield Case(reason, failed, about | {"reason": reason, "refunded": 4, "operation": "studio.images"})
        if reason == "expired":
            yield Case("refund", refund, {"balance": 14, "version": 5, "cause.kind": "refund", "cause.amount": 4})
    wish = CancelRequested("r1", "ada")
    cancelled, _ = cancelling.decide([wish], _row(State.QUEUED, "maya.image", 0))
    (output,) = cancelling.render([_LATER], [wish], cancelled)
    yield Case("cancelled_early", output, about | {"reason": "cancelled", "refunded": 0})
    (output,) = cancelling.render(
        [FakeRecord(msgspec.json.encode(wish), b"ada", **PLACE)], [Misrouted()], [Forwarded()]
    )
    yield Case("sent_on", output, about)
    trained = PredictionUpdated("r1", "ada", "succeeded", "webhook", "p1", {"output": {"version": "a/b:v1"}})
    decisions, _ = settlement.decide([trained], _row(State.RUNNING, "training.model", 25))
    (output,) = settlement.render([_LATER], [trained], decisions)
    yield Case(
        "training", output, about | {"model.version": "a/b:v1", "model.trigger_word": "TOK39809E8668", "images": []}
    )
    yield from _completions(about)


def _completions(about: dict[str, Any]) -> Iterator[Case]:
    times = {"requested_at": "2026-01-31T08:15:22.123Z", "completed_at": "2026-01-31T08:15:30.123Z"}
    url = f"{PICTURES}images/9f/{SHA256}.jpg"
    asked: list[tuple[str, ImagesStored, str, int, dict[str, Any]]] = [
        ("picture", _stored((0,)), "maya.image", 1, times | {"images.0.image_id": "p1-0", "images.0.url": url}),
        ("short_set", _stored((0, 2, 3), (1,)), "studio.images", 4, {"refunded": 1, "images.1.image_id": "p1-2"}),
        ("video", _stored((0,), video=True), "video.animation", 3, {"images.0.thumbnail_url": "", "cost": 3}),
        ("outputs_lost", _stored((), (0,)), "maya.image", 1, {"reason": "outputs_lost", "refunded": 1}),
    ]
    for name, fact, operation, cost, meaning in asked:
        decisions, _ = gallery.decide([fact], _row(State.STORING, operation, cost), PICTURES)
        output, *refunds = gallery.render([_LATER], [fact], decisions)
        yield Case(name, output, about | {"operation": operation} | meaning)
        if name == "short_set":
            yield Case("refund_of_one_output", refunds[0], {"balance": 11, "cause.reference_id": "ada/r1/1"})
