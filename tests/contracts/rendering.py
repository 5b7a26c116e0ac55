"""Every event that our code produces, rendered by its own renderers from fixed inputs, with what it means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.webhooks import fact_in
from models import admission, answers, cancelling, gallery, grants, limits, settlement
from models.accounts import Account
from models.cancelling import CancelRequested
from models.facts import ImagesStored, MissingImage, PredictionUpdated, StoredImage
from models.lifecycle import State
from models.operations import POLICIES, Mode
from models.outputs import Header, Output
from models.provider_work import Model, Work, given_up, rejected, started, updated
from models.requests import Options, read_request
from models.routing import Forwarded, Misrouted
from models.settlement import Facts, Generation
from streams.facts import FactPublisher
from streams.producer import Producer, new_cancel, new_grant, new_request
from streams.settings import load_settings
from tests.unit.records import FakeRecord

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED: list[Header] = [("traceparent", TRACE.encode())]
AT_MS = 1_769_847_330_123
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PICTURES = "https://pictures.example/v1/images/"
PLACE: dict[str, Any] = {"partition": 3, "offset": 1042, "timestamp": AT_MS}


@dataclass(frozen=True)
class Case:
    """One event. `means` says what every reader must find in it: dotted names and their values."""

    name: str
    output: Output
    means: dict[str, Any]

    @property
    def topic(self) -> str:
        return self.output[0]


class _Kept:
    """In the publisher's place."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []

    async def send(self, topic: str, key: bytes | None, value: bytes, headers: Sequence[Header]) -> tuple[int, int]:
        self.outputs.append((topic, key, value, list(headers)))
        return 0, 0


def all_cases() -> list[Case]:
    """In a fixed order; topic and name tell them apart."""
    return [case for group in _GROUPS for case in group()]


def _produced() -> Iterator[Case]:
    kept, pictures = _Kept(), tuple(f"https://uploads.example/{number}.jpg" for number in range(1, 6))
    producer = Producer(load_settings(kafka="127.0.0.1:9", home=Path("nowhere")))
    producer._publisher = kept  # type: ignore[assignment]
    studio = {"num_outputs": 4, "aspect_ratio": "1:1", "seed": 7}
    training: dict[str, Any] = {"images": pictures, "trigger_word": "CLEO"}
    video = {"image_url": PICTURES + "a.jpg"}

    async def send() -> None:
        picture = new_request("ada", "maya.image", "a quiet harbour", request_id="r1")
        await producer.request(picture, headers=tuple(TRACED))
        await producer.request(new_request("ada", "studio.images", "a portrait", request_id="r2", **studio))
        await producer.request(new_request("ben", "video.animation", "it leaves", request_id="r3", **video))
        await producer.request(new_request("cleo", "training.model", "me", request_id="r4", **training))
        await producer.cancel(new_cancel("ada", "r1"))
        for kind in grants.KINDS:
            await producer.grant(new_grant("ada", 20, kind, grant_id=f"g-{kind}"))

    asyncio.run(send())
    about = {"request_id": "r1", "user_id": "ada"}
    means: list[tuple[str, dict[str, Any]]] = [
        ("picture", about | {"operation": "maya.image", "prompt": "a quiet harbour"}),
        ("set", {"operation": "studio.images"} | {f"options.{name}": value for name, value in studio.items()}),
        ("video", {"user_id": "ben", "options.image_url": video["image_url"]}),
        ("training", {"options.images": list(pictures), "options.trigger_word": "CLEO"}),
        ("wish", about),
        *((kind, {"grant_id": f"g-{kind}", "amount": 20, "kind": kind, "user_id": "ada"}) for kind in grants.KINDS),
    ]
    for (name, meaning), output in zip(means, kept.outputs, strict=True):
        yield Case(name, output, meaning)


def _asked(headers: Sequence[Header] = (), **fields: Any) -> FakeRecord:
    body = {"request_id": "r1", "user_id": "ada", "operation": "maya.image", "prompt": "a quiet harbour"} | fields
    return FakeRecord(msgspec.json.encode(body), b"ada", headers=headers, **PLACE)


def _answered(record: FakeRecord, decision: admission.Decision) -> list[Output]:
    return answers.render([record], [read_request(record.key, record.value)], [decision])


def _admission() -> Iterator[Case]:
    about = {"request_id": "r1", "user_id": "ada"}
    admitted, charged = _answered(_asked(TRACED), admission.Admitted(1, 19, 4))
    yield Case("picture", admitted, about | {"cost": 1, "balance": 19, "version": 4, "options": {}})
    yield Case(
        "charge", charged, {"user_id": "ada", "balance": 19, "version": 4, "unlimited": False, "cause.amount": -1}
    )
    choice = {"options": {"num_outputs": 2, "seed": 7}, "context": {"feed_id": "feed-12", "position": 3}}
    (again,) = _answered(_asked(operation="studio.images", **choice), admission.Repeated(2, 17, 6, AT_MS - 5000))
    yield Case(
        "set_again",
        again,
        about
        | {"operation": "studio.images", "cost": 2, "admitted_at": "2026-01-31T08:15:25.123Z"}
        | {"options.num_outputs": 2, "options.seed": 7, "context.feed_id": "feed-12", "context.position": 3},
    )
    limited = {"reason": "rate_limited", "policy": "maya.image", "limit": 30, "window_s": 60}
    (output,) = _answered(_asked(TRACED), admission.RateLimited("maya.image", 30, 60, 0, 12_400))
    yield Case("rate_limited", output, about | limited | {"remaining": 0, "retry_after_s": 12.4})
    (output,) = _answered(_asked(), admission.TooManyInFlight("maya.image", 30, 60, 28, 2))
    yield Case("too_many_in_flight", output, limited | {"remaining": 28, "retry_after_s": 5.0, "max_in_flight": 2})
    (output,) = _answered(_asked(), admission.InsufficientCredits(4, 3))
    yield Case("insufficient_credits", output, {"reason": "insufficient_credits", "required": 4, "current": 3})
    malformed = read_request(b"ada", _asked(prompt="").value)
    (output,) = _answered(_asked(prompt=""), admission.Invalid(malformed.errors))  # type: ignore[union-attr]
    yield Case("invalid", output, about | {"reason": "invalid", "errors.0.field": "prompt"})
    (output,) = _answered(_asked(prompt="else"), admission.Conflicting())
    yield Case("conflict", output, about | {"reason": "conflict", "operation": "maya.image"})
    (output,) = _answered(_asked(TRACED, context=choice["context"]), Forwarded())
    yield Case("sent_on", output, about | {"prompt": "a quiet harbour", "context.position": 3})
    letter = FakeRecord(b'{"request_id": "r1", "user', b"ada", headers=TRACED, **PLACE)
    (output,) = _answered(letter, admission.Dead("bad_json", "the value is not JSON"))
    yield Case("no_json", output, {"dl_reason": "bad_json", "dl_offset": "1042", "traceparent": TRACE})
    (output,) = _answered(FakeRecord(b"\xff\x00", b"\xfe", **PLACE), admission.Dead("bad_utf8", "not UTF-8"))
    yield Case("no_text", output, {"dl_reason": "bad_utf8", "dl_topic": "generations.requested.v1"})
    (output,) = _answered(FakeRecord(None, None, **PLACE), admission.Dead("empty", "the record has no value"))
    yield Case("no_value", output, {"dl_reason": "empty", "dl_at": "2026-01-31T08:15:30.123Z"})


def _booking() -> Iterator[Case]:
    grant, record = grants.Grant("g1", "ada", 100, "purchase"), FakeRecord(b"", b"ada", headers=TRACED, **PLACE)
    decisions, _ = grants.decide([grant], grants.Facts({"ada": Account("ada", 20, 5)}, {}))
    (output,) = grants.render([record], [grant], decisions)
    yield Case("grant", output, {"balance": 120, "version": 6, "cause.kind": "purchase", "cause.reference_id": "g1"})
    value = msgspec.json.encode(grant)
    (output,) = grants.render([FakeRecord(value, b"ada", **PLACE)], [Misrouted()], [Forwarded()])
    yield Case("sent_on", output, {"grant_id": "g1", "amount": 100})
    changes: list[tuple[str, str, dict[str, Any]]] = [
        ("tighter", "maya.image", {"limit": 10, "max_in_flight": 2}),
        ("shadow", "video.animation", {"mode": Mode.SHADOW}),
    ]
    for name, policy, change in changes:
        changed = limits.changed_policy(POLICIES[policy], change)
        yield Case(name, limits.render_change(changed, f"{policy}/5f0c"), {"limit": 10} | change)


_WORK = Work("ada", "r1", "maya.image", "a quiet harbour", Options(), Model("o/n"), prediction_id="p1")


def _services() -> Iterator[Case]:
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
        kept = _Kept()
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


def _endings() -> Iterator[Case]:
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


_GROUPS: tuple[Callable[[], Iterator[Case]], ...] = (_produced, _admission, _booking, _services, _endings)
