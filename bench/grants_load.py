"""Writes for the credit cache to follow: grants of one credit to users in a Zipf order, at a steady rate until TERM.

A process of its own, so that it costs the readers nothing: `python -m bench.grants_load KAFKA TOPIC PARTITIONS USERS
EXPONENT RATE SEED`. The last line is how many were sent.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from itertools import count

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

from bench.workload import user_names, zipf_picks
from streams.partitioning import partition_of

PICKS_PER_BATCH = 1_000


async def send(bootstrap: str, topic: str, partitions: int, users: int, exponent: float, rate: int, seed: int) -> int:
    """Send until TERM; returns how many grants were acked."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    rng = random.Random(seed)
    names = user_names(users)
    places = [partition_of(name, partitions) for name in names]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await producer.start()
    print("ready", flush=True)
    sent = 0
    try:
        began = time.perf_counter()
        for batch in count():
            for pick in zipf_picks(rng, users, exponent, PICKS_PER_BATCH):
                wait_s = began + sent / rate - time.perf_counter()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                if stop.is_set():
                    return sent
                grant = {"grant_id": f"{seed}-{batch}-{sent}", "user_id": names[pick], "amount": 1, "kind": "bonus"}
                value = msgspec.json.encode(grant)
                await producer.send(topic, value, key=names[pick].encode(), partition=places[pick])
                sent += 1
        return sent
    finally:
        await producer.stop()


def main(arguments: list[str]) -> None:
    """Send with the given arguments."""
    kafka, topic, partitions, users, exponent, rate, seed = arguments
    sent = uvloop.run(send(kafka, topic, int(partitions), int(users), float(exponent), int(rate), int(seed)))
    print(sent)


if __name__ == "__main__":
    main(sys.argv[1:])
