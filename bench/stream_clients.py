"""Many clients of /v1/events in a process of their own; each checks its sequence.

Run as `python -m bench.stream_clients URL CLIENTS USERS` with the token in DARKROOM_BENCH_TOKEN. Client number n
follows user n modulo USERS. Events carry a number that counts up for each user, and when they were sent. Prints how
many follow when all clients are there, reads until a line comes on its standard input, and prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.workload import user_names

OPENING_AT_ONCE = 100
CONNECT_TIMEOUT_S = 60.0


class _Data(msgspec.Struct):
    sequence: int
    sent_at_s: float


class _Event(msgspec.Struct):
    data: _Data


@dataclass
class Client:
    """What one client has seen."""

    user_id: str
    last: int = 0
    gaps: int = 0
    repeats: int = 0
    ended: str = ""
    took_s: list[float] = field(default_factory=list)

    def take(self, sequence: int, took_s: float) -> None:
        """An event has come: its number should be the one after the last."""
        self.took_s.append(took_s)
        self.gaps += max(0, sequence - self.last - 1)
        self.repeats += sequence <= self.last
        self.last = max(self.last, sequence)


_decode = msgspec.json.Decoder(_Event).decode


async def follow(client: Client, host: str, port: int, token: str, opened: asyncio.Event) -> None:
    """One stream, read as bytes: a library's client would cost more than the server."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, limit=1 << 17), CONNECT_TIMEOUT_S)
    try:
        writer.write(
            f"GET /v1/events?user={client.user_id} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
            "accept: text/event-stream\r\n\r\n".encode()
        )
        status = await asyncio.wait_for(reader.readline(), CONNECT_TIMEOUT_S)
        if b" 200 " not in status:
            client.ended = status.decode(errors="replace").strip()
            return
        async for line in reader:
            if line.startswith(b"retry:"):
                opened.set()
            elif line.startswith(b"event: bye"):
                client.ended = "bye"
            elif line.startswith(b"data: ") and not client.ended:
                data = _decode(line[6:]).data
                client.take(data.sequence, time.time() - data.sent_at_s)
        client.ended = client.ended or "closed"
    finally:
        opened.set()
        writer.close()


async def run(url: str, count: int, users: int) -> dict[str, Any]:
    """Follow until told to stop. `last` has, for each client, its user and the number it saw last."""
    parts = urlsplit(url)
    names = user_names(users)
    clients = [Client(names[number % users]) for number in range(count)]
    gate = asyncio.Semaphore(OPENING_AT_ONCE)
    token = os.environ["DARKROOM_BENCH_TOKEN"]
    tasks: list[asyncio.Task[None]] = []

    async def begin(client: Client) -> None:
        opened = asyncio.Event()
        async with gate:
            tasks.append(asyncio.create_task(follow(client, parts.hostname or "", parts.port or 80, token, opened)))
            await asyncio.wait_for(opened.wait(), CONNECT_TIMEOUT_S)

    began_s = time.perf_counter()
    await asyncio.gather(*map(begin, clients))
    print(json.dumps({"following": sum(not client.ended for client in clients),
                      "opening_s": round(time.perf_counter() - began_s, 1)}), flush=True)  # fmt: skip
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    took_s = sorted(second for client in clients for second in client.took_s)
    ended = [client.ended for client in clients if client.ended]
    return {
        "received": len(took_s),
        "gaps": sum(client.gaps for client in clients),
        "repeats": sum(client.repeats for client in clients),
        "ended": len(ended),
        "endings": sorted(set(ended))[:5],
        "last": [[client.user_id, client.last] for client in clients],
        "p50_ms": at_share(took_s, 0.5),
        "p99_ms": at_share(took_s, 0.99),
        "max_ms": at_share(took_s, 1.0),
    }


def at_share(sorted_s: list[float], share: float) -> float | None:
    """Milliseconds at this share of sorted seconds; None if there are none."""
    return round(sorted_s[min(len(sorted_s) - 1, int(len(sorted_s) * share))] * 1000, 2) if sorted_s else None


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
