"""A mixture of requests and of what can go wrong with them, drawn from a seed, and what must be true afterwards.

The rules here are written from the price list and share no code with what they check.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import asyncpg
import msgspec

from adapters.audit import audit
from adapters.postgres import transaction
from agents.admit import AdmitStep
from agents.generate import GenerateStep
from agents.grants import GrantsStep
from streams.delivery import Batch
from tests.unit.records import FakeRecord

from .conftest import QUICK
from .world import World

RATES = {
    "rate_limited": 0.05,
    "server_error": 0.05,
    "refused": 0.02,
    "lost_request": 0.04,
    "lost_answer": 0.06,
    "broken_answer": 0.04,
    "slow_answer": 0.03,
    "failed": 0.04,
    "aborted": 0.02,
    "half_set": 0.05,
    "duplicate_webhook": 0.2,
    "missing_webhook": 0.1,
    "late_webhook": 0.1,
    "out_of_order_webhooks": 0.1,
    "forged_webhook": 0.1,
    "stale_webhook": 0.1,
    "corrupt_image": 0.03,
    "not_an_image": 0.02,
    "wrong_content_type": 0.02,
    "huge_image": 0.02,
    "expired_output": 0.02,
    "slow_download": 0.01,
    "read_error": 0.1,
}
PRICES = {"maya.image": 1, "studio.images": 4, "feed.post": 1, "video.animation": 3, "training.model": 25}
PICTURES = {"maya.image": 1, "studio.images": 4, "feed.post": 1}
# Patient enough for a busy machine: an answer that is late because of us is not the fault that is meant.
ANSWER_TIMEOUT_S = 2.0
OPTIONS = replace(QUICK, fault_rates=RATES, distinct_pictures=16, slow_answer_s=2 * ANSWER_TIMEOUT_S)
REQUESTS_A_USER = 20
CREDITS = 1000
REASONS = {None, "provider_failed", "provider_rejected", "outputs_lost", "cancelled"}


class Wish(NamedTuple):
    """One request to make, and whether its user will think better of it."""

    user_id: str
    request_id: str
    operation: str
    prompt: str
    options: dict[str, Any]
    is_cancelled: bool

    def body(self) -> dict[str, Any]:
        """As generations.requested.v1."""
        names = ("user_id", "request_id", "operation", "prompt", "options")
        return {name: getattr(self, name) for name in names}


def wishes(seed: int, count: int) -> Iterator[Wish]:
    """Within every limit: no user has more of an operation than a window allows."""
    chance = random.Random(seed)
    for number in range(count):
        turn = number // max(1, -(-count // REQUESTS_A_USER))
        operation = "maya.image"
        if turn in (3, 13):
            operation = "video.animation"
        elif turn == 7:
            operation = "training.model"
        elif turn % 4 == 1:
            operation = "studio.images"
        elif turn % 4 == 2:
            operation = "feed.post"
        is_cancelled = chance.random() < 0.08
        # Half of those who think better of it would wait for ever.
        mark = " [[fault:stuck]]" if is_cancelled and chance.random() < 0.5 else ""
        options: dict[str, Any] = {}
        if operation == "video.animation":
            options = {"image_url": f"http://pictures/{number}.jpg"}
        elif operation == "training.model":
            options = {"images": [f"http://pictures/{number}-{index}.jpg{mark.strip()}" for index in range(5)]}
        user_id = f"u{number % max(1, -(-count // REQUESTS_A_USER))}"
        yield Wish(user_id, f"m{number}", operation, f"a lake, {number}{mark}", options, is_cancelled)


async def admit(world: World, asked: list[Wish]) -> None:
    """Grant, charge and queue, by the real steps, as if it had been asked for within the last minutes."""
    now_ms = int(time.time() * 1000)
    users = sorted({wish.user_id for wish in asked})
    async with transaction(world.pool) as held:
        grants = [{"grant_id": f"g-{user}", "user_id": user, "amount": CREDITS, "kind": "purchase"} for user in users]
        await _apply(GrantsStep(1), held, [(grant["user_id"], grant) for grant in grants], now_ms - 400_000, ())
        requests = [(wish.user_id, wish.body()) for wish in asked]
        step = AdmitStep(1)
        windows = await step.load(held, 0, now_ms - 400_000)
        # A user's requests are spread over minutes, so that none is refused.
        for first in range(0, len(requests), len(users)):
            at_ms = now_ms - 300_000 + 10_000 * (first // len(users))
            await _apply(step, held, requests[first : first + len(users)], at_ms, windows)
        await _apply(GenerateStep(), held, requests, now_ms, ())
    assert await world.states() == {"queued": len(asked)}


async def _apply(step: Any, held: Any, bodies: list[tuple[str, Any]], at_ms: int, state: Any) -> None:
    records = [
        FakeRecord(msgspec.json.encode(body), user_id.encode(), offset=number, timestamp=at_ms)
        for number, (user_id, body) in enumerate(bodies)
    ]
    await step.apply(held, Batch(0, records, [step.read(record) for record in records], state, at_ms))


async def assert_whole(database_url: str, counts: dict[str, Any], asked: list[Wish]) -> Counter[str]:
    """Everything ended, paid for once, delivered or given back; returns how the requests ended.

    `counts` is what the emulator says it was asked to run.
    """
    assert counts["complete"]
    assert counts["paid_twice"] == {}
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "SELECT g.*, count(i.image_id) AS kept FROM generations g LEFT JOIN ai_images i USING (user_id, request_id)"
        " GROUP BY g.user_id, g.request_id"
    )
    await connection.close()
    assert len(rows) == len(asked)
    by_name = {wish.request_id: wish for wish in asked}
    for row in rows:
        _assert_settled(row, by_name[row["request_id"]], counts["requests"])
    findings = await audit(database_url)
    assert findings.violations == 0, findings
    return Counter(row["reason"] or row["state"] for row in rows)


def _assert_settled(row: Any, wish: Wish, runs: dict[str, list[str]]) -> None:
    seen = {name: row[name] for name in ("request_id", "state", "reason", "cost", "refunded", "kept", "prediction_id")}
    assert row["state"] in ("completed", "failed", "cancelled"), seen
    assert row["reason"] in REASONS, seen
    assert row["cost"] == PRICES[row["operation"]], seen
    assert wish.is_cancelled or row["state"] != "cancelled", seen
    if row["state"] != "completed":
        assert (row["refunded"], row["kept"]) == (row["cost"], 0), seen
        return
    # What was delivered is the one run that the provider was asked for.
    assert runs[f"{row['user_id']}/{row['request_id']}"] == [row["prediction_id"]], seen
    if row["operation"] in PICTURES:
        # A picture costs one in every operation: each credit is a gallery row or given back.
        assert row["cost"] == row["kept"] + row["refunded"], seen
        assert row["kept"] > 0, seen
    else:
        assert row["refunded"] == 0, seen
