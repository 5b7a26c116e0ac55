"""Open-loop requests over HTTP in a process of their own: sent at intended times, whether or not earlier ones are done.

Run as `python -m bench.http_load URL RATE REQUESTS WARM_UP USERS SEED` with the token in DARKROOM_BENCH_TOKEN. A
request's time is counted from its intended moment. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from typing import Any

import aiohttp
import uvloop

from bench.stream_clients import at_share
from bench.workload import user_names

CONNECTIONS_MAX = 2_000
TIMEOUT_S = 60.0
SAFETY_S = 0.5


async def load(url: str, rate: float, requests: int, warm_up: int, users: int, seed: int) -> dict[str, Any]:
    """Send all and wait for every answer; times in ms."""
    rng = random.Random(seed)
    names = user_names(users)
    statuses: Counter[str] = Counter()
    took_s: list[float] = []
    headers = {"authorization": f"Bearer {os.environ['DARKROOM_BENCH_TOKEN']}", "prefer": "wait=30"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout, connector=connector) as session:
        began_s = time.perf_counter() + SAFETY_S

        async def one(number: int, user: str) -> None:
            intended_s = began_s + number / rate
            body = {"user_id": user, "operation": "maya.image", "prompt": f"a boat at dawn, number {number}"}
            try:
                request_id = f"h{seed}-{number}"
                async with session.post(
                    "/v1/generations", json=body, headers={"idempotency-key": request_id}
                ) as answer:
                    said = await answer.json(content_type=None)
                    outcome = said.get("state") or said.get("code") or ""
                    statuses[f"{answer.status} {outcome}"] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                statuses[type(error).__name__] += 1
            if number >= warm_up:
                took_s.append(time.perf_counter() - intended_s)

        tasks = []
        for number in range(requests):
            await asyncio.sleep(max(0.0, began_s + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number, rng.choice(names))))
        await asyncio.gather(*tasks)
        lasted_s = time.perf_counter() - began_s
    took_s.sort()
    return {
        "sent": requests,
        "statuses": dict(statuses),
        "per_s": round(requests / lasted_s, 1),
        "p50_ms": at_share(took_s, 0.5),
        "p99_ms": at_share(took_s, 0.99),
        "max_ms": at_share(took_s, 1.0),
    }


if __name__ == "__main__":
    rate, *counts = sys.argv[2:]
    print(json.dumps(uvloop.run(load(sys.argv[1], float(rate), *map(int, counts)))))
