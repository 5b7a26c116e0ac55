"""All of the provider's faults at once, with webhooks: every request ends once, and nothing is paid for twice."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.emulator.server import running_emulator

from .conftest import QUICK
from .door import open_door
from .world import until, world_on

REQUESTS = 120
RATES = {
    "rate_limited": 0.05,
    "server_error": 0.05,
    "refused": 0.02,
    "lost_request": 0.04,
    "lost_answer": 0.06,
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
    "expired_output": 0.02,
    "read_error": 0.1,
}


@pytest.mark.timeout(120)
async def test_under_a_mixture_of_all_faults_every_request_ends_once(database: str, tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    options = replace(QUICK, seed=seed, fault_rates=RATES)
    with running_emulator(options) as emulator_url:
        async with (
            world_on(database, emulator_url, str(tmp_path / "blobs")) as world,
            open_door(world.publisher) as world.webhook_base_url,
        ):
            for number in range(REQUESTS):
                many = number % 4 == 0
                await world.queue(
                    f"u{number % 10}",
                    f"m{number}",
                    operation="studio.images" if many else "maya.image",
                    cost=4 if many else 1,
                )

            async def all_ended() -> bool:
                return set(await world.states()) <= {"completed", "failed"}

            async with world.running(world.dispatcher(), world.reconciler(), world.keeper()):
                await until(all_ended, "every request has ended", timeout_s=60.0)
            counts = await world.counts()
            assert counts["paid_twice"] == {}
            assert len(counts["requests"]) >= REQUESTS * 0.8
            ends = await world.pool.fetch(
                "SELECT g.state, g.reason, g.cost, g.refunded, count(i.image_id) AS kept"
                " FROM generations g LEFT JOIN ai_images i USING (user_id, request_id)"
                " GROUP BY g.user_id, g.request_id"
            )
            for row in ends:
                # Every credit is either a picture or given back; a picture costs one in both operations.
                assert row["cost"] == row["kept"] + row["refunded"], dict(row)
                assert row["reason"] in (None, "provider_failed", "provider_rejected", "outputs_lost"), dict(row)
            assert len({row["reason"] for row in ends}) > 1
