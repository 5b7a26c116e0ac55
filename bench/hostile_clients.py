"""Clients that mean no good: half a request and then nothing, bodies without an end, tokens that are none.

Run as `python -m bench.hostile_clients URL SLOW UNAUTHORISED_PER_S`, until a line comes on its standard input. The last
line is JSON: what they were answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import uvloop

OVERSIZE_EVERY_S = 0.2
OVERSIZE_BYTES = 4 << 20
STRANGERS = 20


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


async def stranger(host: str, port: int, per_s: float, seen: Counter[str]) -> None:
    """Requests with made-up tokens on one connection, made as cheaply as can be: they are to cost others, not us."""
    began_s, sent = time.monotonic(), 0
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            while True:
                await asyncio.sleep(max(0.0, began_s + sent / per_s - time.monotonic()))
                sent += 1
                token = f"dr_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"
                writer.write(
                    f"GET /v1/credits?user=ada HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                seen[head[9:12].decode()] += 1
                if b"connection: close" in head.lower():
                    break
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            seen["broken off"] += 1
            await asyncio.sleep(0.1)


async def oversize(host: str, port: int, seen: Counter[str]) -> None:
    """Bodies of many megabytes, one after the other."""
    head = f"POST /v1/generations HTTP/1.1\r\nhost: x\r\ncontent-length: {OVERSIZE_BYTES}\r\n\r\n".encode()
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(head + b"x" * OVERSIZE_BYTES)
            answer = await reader.readline()
            seen[answer[9:12].decode() or "broken off"] += 1
            writer.close()
        except OSError:
            seen["broken off"] += 1
        await asyncio.sleep(OVERSIZE_EVERY_S)


async def run(url: str, slow_connections: int, per_s: float) -> dict[str, int]:
    """Go on until told to stop."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    seen: Counter[str] = Counter()
    works = [slow(host, port, seen) for _ in range(slow_connections)]
    works += [stranger(host, port, per_s / STRANGERS, seen) for _ in range(STRANGERS)]
    tasks = [asyncio.create_task(work) for work in (*works, oversize(host, port, seen))]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return dict(seen)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
