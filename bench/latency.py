"""Open-loop latency: requests go out at intended times whether or not answers come, as users do.

A latency is counted from the intended time, so a stall that delays the sending counts too. Runs as a process of its
own: `python -m bench.latency KAFKA INPUT ANSWERS PARTITIONS USERS RATE SECONDS SEED`, where ANSWERS are topics joined
by commas (the input itself for a bare echo). Its last line is JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from contextlib import suppress
from typing import Any

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from bench.workload import one_request, user_names
from streams.partitioning import partition_of

WARM_UP_S = 2.0
ANSWERS_TIMEOUT_S = 20.0
SAFETY_S = 0.5


class _Answer(msgspec.Struct):
    request_id: str


async def measure(
    bootstrap: str, topic: str, answers: list[str], partitions: int, users: int, rate: int, duration_s: float, seed: int
) -> dict[str, Any]:
    """Send `rate` requests a second; returns {"p50_ms", "p99_ms", "max_ms", "sent", "unanswered"}."""
    rng = random.Random(seed)
    names = user_names(users)
    total = int(rate * (duration_s + WARM_UP_S))
    requests = [one_request(rng, rng.choice(names), number) for number in range(total)]
    places = {user_id: partition_of(user_id, partitions) for user_id, _, _ in requests}
    numbers = {request_id: number for number, (_, request_id, _) in enumerate(requests)}
    received: list[float] = [0.0] * total
    decode = msgspec.json.Decoder(_Answer).decode
    left = total

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, fetch_max_wait_ms=50, fetch_min_bytes=1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await consumer.start()
    await producer.start()
    assigned = [TopicPartition(name, number) for name in answers for number in range(partitions)]
    consumer.assign(assigned)
    for tp, end in (await consumer.end_offsets(assigned)).items():
        consumer.seek(tp, end)

    async def receive() -> None:
        nonlocal left
        while left:
            fetched = await consumer.getmany(timeout_ms=200)
            now = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    number = numbers.get(decode(record.value).request_id)
                    if number is not None and not received[number]:
                        received[number] = now
                        left -= 1

    gc.collect()
    gc.freeze()
    gc.disable()
    receiving = asyncio.create_task(receive())
    began = time.perf_counter() + SAFETY_S
    for number, (user_id, _, value) in enumerate(requests):
        wait_s = began + number / rate - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        await producer.send(topic, value, key=user_id.encode(), partition=places[user_id])
    with suppress(TimeoutError):
        await asyncio.wait_for(receiving, ANSWERS_TIMEOUT_S)
    await producer.stop()
    await consumer.stop()
    first = int(rate * WARM_UP_S)
    latencies = sorted(
        (received[number] - (began + number / rate)) * 1000 for number in range(first, total) if received[number]
    )
    return {
        "p50_ms": _percentile(latencies, 0.50),
        "p99_ms": _percentile(latencies, 0.99),
        "max_ms": _percentile(latencies, 1.0),
        "sent": total,
        "unanswered": left,
    }


def _percentile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(len(values) * share))], 2) if values else None


def main(arguments: list[str]) -> None:
    """One measurement."""
    kafka, topic, answers, partitions, users, rate, duration_s, seed = arguments
    measured = uvloop.run(
        measure(kafka, topic, answers.split(","), int(partitions), int(users), int(rate), float(duration_s), int(seed))
    )
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
