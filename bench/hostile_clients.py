"""Clients that mean no good: half a request and then nothing, bodies without an end, tokens that are none.

Run as `python -m bench.hostile_clients URL SLOW UNAUTHORISED_PER_S`, until a line comes on its standard input. The last
line is JSON: what they were answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import aiohttp
import uvloop

OVERSIZE_EVERY_S = 0.2
OVERSIZE_BYTES = 4 << 20


async def slow(host: str, port: int, seen: Counter[str]) -> None:
    """A request that never becomes whole, begun again whenever it is cut."""
    while True:
        began_s = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"POST /v1/generations HTTP/1.1\r\nhost: x\r\n")
            while not reader.at_eof():
                writer.write(b"x-a: b\r\n")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 2.0)
            writer.close()
        except OSError:
            pass
        seen["slow connections cut"] += time.monotonic() - began_s > 1
        await asyncio.sleep(0.1)


async def run(url: str, slow_connections: int, per_s: float) -> dict[str, int]:
    """Go on until told to stop."""
    parts = urlsplit(url)
    seen: Counter[str] = Counter()
    tasks = [asyncio.create_task(slow(parts.hostname or "", parts.port or 80, seen)) for _ in range(slow_connections)]
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=200)) as session:

        async def post(token: str, body: bytes) -> None:
            try:
                headers = {"authorization": f"Bearer {token}"}
                async with session.post("/v1/generations", data=body, headers=headers) as answer:
                    await answer.read()
                    seen[str(answer.status)] += 1
            except (aiohttp.ClientError, OSError):
                seen["broken off"] += 1

        async def strangers() -> None:
            began_s, sent = time.monotonic(), 0
            waiting: set[asyncio.Task[None]] = set()
            while True:
                await asyncio.sleep(max(0.0, began_s + sent / per_s - time.monotonic()))
                sent += 1
                if len(waiting) < 1000:
                    token = f"dr_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"
                    task = asyncio.create_task(post(token, b"{}"))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)

        async def oversize() -> None:
            while True:
                await post("x", b"x" * OVERSIZE_BYTES)
                await asyncio.sleep(OVERSIZE_EVERY_S)

        tasks += [asyncio.create_task(strangers()), asyncio.create_task(oversize())]
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return dict(seen)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
