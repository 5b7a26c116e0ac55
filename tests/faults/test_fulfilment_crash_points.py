"""The other steps, killed before and after their commit: queueing, settling, completing and cancelling happen once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.topics import ADMITTED, CANCEL_REQUESTED, COMPLETED, CREDITS, FAILED, PREDICTIONS, STORED
from tests.faults.harness import World, event_ids
from tests.support.waiting import eventually

NOBODY = {"REPLICATE_BASE_URL": "http://127.0.0.1:9", "REPLICATE_API_TOKEN": "none"}
IMAGE = {
    "output_index": 0,
    "key": "images/ab/ab.jpg",
    "thumbnail_key": "thumbnails/ab/ab.webp",
    "width": 8,
    "height": 8,
    "content_type": "image/jpeg",
    "bytes": 99,
    "sha256": "ab",
}


async def charged(world: World, state: str) -> None:
    """One request of one user, charged, in this state; no service looks at it."""
    await world.open_accounts(["u"], 10)
    async with world.database() as held:
        await held.execute(
            "INSERT INTO ledger (user_id, amount, kind, reference_id, balance_after, version)"
            " VALUES ('u', -1, 'charge', 'u/r', 9, 2)"
        )
        await held.execute("UPDATE accounts SET balance = 9, version = 2")
        await held.execute(
            "INSERT INTO generations (user_id, request_id, operation, state, cost, balance, version, prompt, options,"
            " partition, admitted_at, prediction_id) VALUES ('u', 'r', 'maya.image', $1, 1, 9, 2, 'a lake', '{}', 0,"
            " now(), CASE WHEN $1 IN ('admitted', 'queued') THEN NULL ELSE 'p' END)",
            state,
        )


async def killed_and_restarted(world: World, crash_at: str, topic: str, fact: dict[str, Any]) -> None:
    """Let a worker die of a fact that comes twice, and another one end what it began."""
    doomed = await world.start("fulfilment", DARKROOM_CRASH_AT=crash_at, **NOBODY).ready()
    await world.produce(topic, [("u", json.dumps({"request_id": "r", "user_id": "u"} | fact).encode())] * 2)
    assert await doomed.ended() == -9, doomed.output()
    await world.start("fulfilment", **NOBODY).ready()
    await world.until_acked("fulfilment", topic)


@pytest.mark.parametrize("point", [2, 3, 4])
async def test_a_kill_while_settling_refunds_once(world: World, point: int) -> None:
    await charged(world, "running")
    fact = {"status": "failed", "source": "webhook", "prediction_id": "p", "prediction": {}}
    await killed_and_restarted(world, f"settle:{point}", PREDICTIONS, fact)
    ((_, failed),) = event_ids(await world.read(FAILED)).items()
    assert (failed["reason"], failed["refunded"]) == ("provider_failed", 1)
    assert list(event_ids(await world.read(CREDITS))) == ["u/credits/3"]
    assert await world.fetch("SELECT amount, balance_after FROM ledger WHERE kind = 'refund'") == [(1, 10)]


@pytest.mark.parametrize("point", [2, 3, 4])
async def test_a_kill_while_completing_writes_one_row_and_says_the_same_twice_at_most(world: World, point: int) -> None:
    await charged(world, "storing")
    await killed_and_restarted(world, f"gallery:{point}", STORED, {"prediction_id": "p", "images": [IMAGE]})
    ((name, completed),) = event_ids(await world.read(COMPLETED)).items()
    assert (name, completed["images"][0]["image_id"]) == ("u/r/completed", "p-0")
    assert await world.fetch("SELECT image_id, is_favorite FROM ai_images") == [("p-0", False)]
    assert await world.fetch("SELECT state, refunded FROM generations") == [("completed", 0)]


@pytest.mark.parametrize("point", [2, 3, 4])
async def test_a_kill_while_cancelling_refunds_once(world: World, point: int) -> None:
    await charged(world, "queued")
    await killed_and_restarted(world, f"cancel:{point}", CANCEL_REQUESTED, {})
    ((_, failed),) = event_ids(await world.read(FAILED)).items()
    assert (failed["reason"], failed["refunded"]) == ("cancelled", 1)
    assert list(event_ids(await world.read(CREDITS))) == ["u/credits/3"]
    assert await world.fetch("SELECT state, refunded FROM generations") == [("cancelled", 1)]


@pytest.mark.parametrize("point", [2, 3])
async def test_a_kill_while_queueing_queues_once(world: World, point: int) -> None:
    await charged(world, "admitted")
    await killed_and_restarted(world, f"generate:{point}", ADMITTED, {"operation": "maya.image"})

    async def is_handed_on() -> bool:
        rows = await world.fetch("SELECT queued_at IS NOT NULL AND state IN ('queued', 'submitting') FROM generations")
        return [tuple(row) for row in rows] == [(True,)]

    await eventually(is_handed_on, 10, "the request is not queued")
