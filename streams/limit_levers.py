"""Levers on the limits: what holds now, changing it, and who is refused most."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Mapping

import msgspec

from models.errors import Unavailable
from models.limits import Policies, changed_policy, render_change
from models.operations import Policy
from models.topics import LIMITS, REJECTED
from streams.limits import moment_of
from streams.publisher import Publisher
from streams.reading import Reader
from streams.settings import Settings


class _Refusal(msgspec.Struct):
    """The parts of generations.rejected.v1 that counting needs."""

    user_id: str
    reason: str
    policy: str = ""


async def read_policies(settings: Settings, *, timeout_s: float = 20.0) -> Policies:
    """The policies that hold now. Raises Unavailable; SetupFailed when the topic is missing."""
    policies = Policies()
    deadline = time.monotonic() + timeout_s
    async with Reader(settings, [LIMITS]) as reader:
        await reader.start_at_beginning()
        ends = await reader.end_offsets()
        while await reader.behind(ends):
            if time.monotonic() > deadline:
                raise Unavailable("the topic of limits", f"it was not read to its end within {timeout_s:g} s")
            for _, record in await reader.read(0.2):
                policies.apply(record.key, record.value, moment_of(record))
    return policies


async def change_limits(settings: Settings, name: str, change: Mapping[str, object]) -> tuple[Policy, Policy]:
    """Publish a policy with some fields changed: (as it was, as it is now).

    Raises WrongUse: no worker would take it. Unavailable: it may or may not be published; changing again is safe.
    """
    before = (await read_policies(settings))[name]
    after = changed_policy(before, change)
    topic, key, value, headers = render_change(after, f"{name}/{uuid.uuid4().hex}")
    publisher = Publisher(settings.require("kafka"), client_id="darkroom-limits", topic_prefix=settings.topic_prefix)
    try:
        await publisher.send(topic, key, value or b"", headers)
    finally:
        await publisher.close()
    return before, after


async def count_refusals(
    settings: Settings, since_ms: int, *, timeout_s: float
) -> tuple[Counter[tuple[str, str]], bool]:
    """Refusals for limits by (user_id, policy) since a moment of broker time, and whether all were read in time.

    Raises Unavailable; SetupFailed when the topic is missing.
    """
    decode = msgspec.json.Decoder(_Refusal).decode
    found: Counter[tuple[str, str]] = Counter()
    deadline = time.monotonic() + timeout_s
    async with Reader(settings, [REJECTED]) as reader:
        await reader.start_at_time(since_ms)
        ends = await reader.end_offsets()
        while await reader.behind(ends):
            if time.monotonic() > deadline:
                return found, False
            for _, record in await reader.read(0.5):
                refusal = decode(record.value or b"{}")
                if refusal.reason == "rate_limited":
                    found[refusal.user_id, refusal.policy] += 1
    return found, True
