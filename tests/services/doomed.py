"""All services in a process of their own, to be killed at the crash points that DARKROOM_CRASH_AT names.

Arguments: database URL, emulator URL, blob folder, where webhooks go, seconds that the provider may take to answer.
Ends by itself when every request has ended.
"""

from __future__ import annotations

import asyncio
import sys

import services.reconciler
from tests.services.world import until, world_on

ENDED = {"completed", "failed", "cancelled"}
LIFE_S = 900.0


async def main(database_url: str, emulator_url: str, blobs: str, webhook_base_url: str, timeout_s: str) -> None:
    async with world_on(database_url, emulator_url, blobs, timeout_s=float(timeout_s)) as world:
        world.webhook_base_url = webhook_base_url

        async def all_ended() -> bool:
            return set(await world.states()) <= ENDED

        async with world.running(
            world.dispatcher(), world.reconciler(), world.keeper(lease_s=0.5), world.sweeper(flight_s=0.5)
        ):
            await until(all_ended, "every request has ended", timeout_s=LIFE_S)


if __name__ == "__main__":
    services.reconciler.LEASE_MARGIN_S = 0.2  # what a killed worker held is free again soon
    asyncio.run(main(*sys.argv[1:]))
