"""How many clients one gateway process can stream completions to, and how late they come.

Run with `python -m bench.event_streams`. Clients run in a process of their own, each follows one user and checks that
its events count up without a gap or a repetition. Completions go onto Kafka at a steady rate, at intended times; the
delay is from the intended time to the client's having read the event. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.arena import Arena
from bench.contestants import Usage
from bench.gateway_process import gateway_process, memory_bytes, new_token, with_gateway
from bench.stage import run_bench, say
from bench.workload import user_names
from models.access import Scope
from models.errors import DarkroomError
from models.outputs import EventStamp
from models.topics import COMPLETED
from streams.publisher import Publisher
from streams.settings import Settings

PARTITIONS = 4
OPEN_TIMEOUT_S = 180.0
DRAIN_S = 3.0
STREAM_BYTES_MAX = 8 << 20


class ClientsFailed(DarkroomError):
    """The process with the clients has ended badly."""

    code = "clients_failed"


@dataclass(frozen=True)
class Options:
    """What to run."""

    clients: int
    users: int
    rate: float
    duration_s: float
    seed: int


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit code 0 if nothing is wrong."""
    options = _options(arguments)
    return run_bench(lambda settings, home: asyncio.run(_measure(settings, options, home)), partitions=PARTITIONS)


async def _measure(running: Settings, options: Options, home: Path) -> dict[str, Any]:
    arena = Arena(running, 1)
    await arena.open()
    try:
        settings = with_gateway((await arena.new_round()).settings.model_copy(update={"home": home}))
        token = new_token(settings, Scope.DASHBOARD)
        with gateway_process(settings) as (url, gateway):
            pid = gateway.child.pid
            before_bytes = memory_bytes(pid)
            clients = await _start_clients(url, token, options)
            opened = json.loads(await _line(clients))
            say(f"clients:  {json.dumps(opened)}")
            open_bytes = memory_bytes(pid)
            usage = Usage({"gateway": pid})
            sampling = asyncio.create_task(usage.sample())
            began_ms, sent = time.time() * 1000, await _publish(settings, options)
            ended_ms = time.time() * 1000
            await asyncio.sleep(DRAIN_S)
            sampling.cancel()
            assert clients.stdin is not None
            clients.stdin.write(b"stop\n")
            found = json.loads(await _line(clients))
            await clients.wait()
            cpu_s = usage.between(began_ms, ended_ms)["gateway"]
            after_bytes = memory_bytes(pid)
    finally:
        await arena.close()
    behind = sum(sent[user] - last for user, last in found.pop("last"))
    wrong = {"lost": behind + found["gaps"], "repeated": found["repeats"], "dropped": found["ended"],
             "not_opened": options.clients - opened["following"]}  # fmt: skip
    return {
        "bench": "event_streams",
        "clients": options.clients,
        "completions_per_s": options.rate,
        "deliveries": found["received"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "max_ms": found["max_ms"],
        "kib_per_client": round((open_bytes - before_bytes) / options.clients / 1024, 1),
        "kib_per_client_after": round((after_bytes - before_bytes) / options.clients / 1024, 1),
        "gateway_cpu": round(cpu_s / ((ended_ms - began_ms) / 1000), 2),
        "opening_s": opened["opening_s"],
        "violations": sum(wrong.values()),
        "violations_by_kind": wrong,
        "endings": found["endings"],
    }


async def _start_clients(url: str, token: str, options: Options) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.stream_clients", url, str(options.clients), str(options.users)),
        env=os.environ | {"DARKROOM_BENCH_TOKEN": token},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=STREAM_BYTES_MAX,
    )


async def _line(clients: asyncio.subprocess.Process) -> bytes:
    assert clients.stdout is not None
    line = await asyncio.wait_for(clients.stdout.readline(), OPEN_TIMEOUT_S)
    if not line:
        raise ClientsFailed("the process with the clients ended early")
    return line


async def _publish(settings: Settings, options: Options) -> Counter[str]:
    """Completions at intended times; how many each user has."""
    rng = random.Random(options.seed)
    names = user_names(options.users)
    sent: Counter[str] = Counter()
    stamp = EventStamp(COMPLETED, "gallery")
    publisher = Publisher(settings.require("kafka"), client_id="bench", topic_prefix=settings.topic_prefix)
    pending: set[asyncio.Task[Any]] = set()
    try:
        # Connected before the first that counts: those that wait for a connection go out in any order.
        await publisher.send(COMPLETED, b"warm-up", b"{}", stamp.headers("warm-up"))
        began_s = time.time()
        for number in range(int(options.rate * options.duration_s)):
            intended_s = began_s + number / options.rate
            await asyncio.sleep(max(0.0, intended_s - time.time()))
            user = rng.choice(names)
            sent[user] += 1
            body = {
                "request_id": f"r{number}",
                "user_id": user,
                "operation": "maya.image",
                "sequence": sent[user],
                "sent_at_s": intended_s,
                "images": [{"image_id": f"i{number}", "url": "http://x/" + "k" * 64}],
            }
            headers = stamp.headers(f"{user}/r{number}/completed")
            task = asyncio.create_task(publisher.send(COMPLETED, user.encode(), json.dumps(body).encode(), headers))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
    finally:
        await publisher.close()
    return sent


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench.event_streams", description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=2_000, help="so many are followed, each by as many clients")
    parser.add_argument("--rate", type=float, default=200.0, help="completions a second")
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=7)
    parsed = parser.parse_args(arguments)
    return Options(**vars(parsed))


if __name__ == "__main__":
    sys.exit(main())
