"""Ask for pictures and wait for them: `python examples/producer.py USER PROMPT`.

Reads DARKROOM_KAFKA, which `eval "$(darkroom stack env)"` sets.
"""

from __future__ import annotations

import asyncio
import os
import sys

from streams import DarkroomClient
from streams.client import GenerationFailed, Pending, Refused


async def main(user_id: str, prompt: str) -> int:
    async with DarkroomClient(kafka=os.environ["DARKROOM_KAFKA"]) as client:
        try:
            # An id of your own (the order, the post) makes a request that is sent twice the same request.
            admission = await client.request(user_id, "maya.image", prompt)
            print(f"admitted: {admission.cost} credits, {admission.balance} left")
            completion = await client.completion(admission, timeout_s=120)
        except Refused as error:
            print(f"{error.code}: {error}")
            return 1
        except GenerationFailed as error:
            print(f"{error.reason}: {error} {error.refunded} credits were given back.")
            return 1
        except Pending as error:
            print(f"{error}; ask again with request_id={error.request_id}")
            return 1
    for image in completion.images:
        print(f"{image.url}  {image.width}x{image.height}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
