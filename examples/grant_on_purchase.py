"""Give credits for a purchase, once however often the shop says so.

`python examples/grant_on_purchase.py ORDER USER CREDITS` reads DARKROOM_KAFKA, which
`eval "$(darkroom stack env)"` sets.
"""

from __future__ import annotations

import asyncio
import os
import sys

from streams import DarkroomClient
from streams.client import Unavailable, WrongUse


async def on_purchase(client: DarkroomClient, order_id: str, user_id: str, credits: int) -> None:
    """What a payment provider's webhook would call; it may call twice, and it calls again after an error."""
    # The order makes the id: booked once, whoever sends it again and whenever.
    grant_id = await client.grant(user_id, credits, "purchase", grant_id=f"order-{order_id}", timeout_s=20)
    print(f"{grant_id}: {credits} credits for {user_id}")


async def main(order_id: str, user_id: str, credits: str) -> int:
    async with DarkroomClient(kafka=os.environ["DARKROOM_KAFKA"]) as client:
        try:
            for _ in range(2):
                await on_purchase(client, order_id, user_id, int(credits))
        except (Unavailable, WrongUse, ValueError) as error:
            print(f"not given: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:4])))
