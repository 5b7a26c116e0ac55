"""Requests, grants, limits, and what is answered at once, rendered from fixed inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from models import admission, answers, grants, limits
from models.accounts import Account
from models.operations import POLICIES, Mode
from models.outputs import Header, Output
from models.requests import read_request
from models.routing import Forwarded, Misrouted
from streams.producer import Producer, new_cancel, new_grant, new_request
from streams.settings import load_settings
from tests.contracts.fixed import AT_MS, PICTURES, PLACE, TRACE, TRACED, Case, Kept
from tests.unit.records import FakeRecord


def produced() -> Iterator[Case]:
    kept, pictures = Kept(), tuple(f"https://uploads.example/{number}.jpg" for number in range(1, 6))
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


def admission_answers() -> Iterator[Case]:
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


def booking() -> Iterator[Case]:
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
