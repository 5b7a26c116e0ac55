"""Open-loop load from request to completion: requests go out at intended times whether or not earlier ones are done.

A journey is counted from the intended time until a plain consumer has the completion; our own share of it is what is
left without the run at the provider, by the provider's times. Runs as a process of its own: `python -m bench.journeys
KAFKA TOPIC_PREFIX PARTITIONS USERS RATE REQUESTS WARM_UP SEED`, where the first WARM_UP requests are not counted. Its
last line is JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from bench.latency import _percentile
from bench.workload import one_request, user_names
from models.provider_work import seconds_of
from models.topics import COMPLETED, FAILED, PREDICTIONS, REJECTED, REQUESTED
from streams.partitioning import partition_of

STALL_TIMEOUT_S = 30.0
WHOLE_TIMEOUT_S = 900.0
SAFETY_S = 0.5
# What comes before and after is filling and emptying: the rate is that of the completions in between.
STEADY = (0.15, 0.85)


class _Run(msgspec.Struct):
    created_at: str | None = None
    completed_at: str | None = None


class _Event(msgspec.Struct):
    request_id: str
    status: str = ""
    prediction: _Run = msgspec.field(default_factory=_Run)


@dataclass
class _Journey:
    intended_s: float
    completed_s: list[float] = field(default_factory=list)
    run_s: float = 0.0


async def measure(
    bootstrap: str, prefix: str, partitions: int, users: int, rate: float, requests: int, warm_up: int, seed: int
) -> dict[str, Any]:
    """Send, wait until all is done, and count; times in ms."""
    rng = random.Random(seed)
    names = user_names(users)
    load = [one_request(rng, rng.choice(names), number) for number in range(requests)]
    # A fixed offset between the clock that events carry and the one that intended times are on.
    epoch_s = time.time() - time.perf_counter()
    began_s = time.perf_counter() + SAFETY_S
    journeys = {request_id: _Journey(began_s + number / rate) for number, (_, request_id, _) in enumerate(load)}
    ended: dict[str, int] = dict.fromkeys((COMPLETED, FAILED, REJECTED), 0)

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, fetch_max_wait_ms=50, fetch_min_bytes=1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await consumer.start()
    await producer.start()
    topics = {prefix + name: name for name in (*ended, PREDICTIONS)}
    assigned = [TopicPartition(name, number) for name in topics for number in range(partitions)]
    consumer.assign(assigned)
    for tp, end in (await consumer.end_offsets(assigned)).items():
        consumer.seek(tp, end)
    decode = msgspec.json.Decoder(_Event).decode

    async def receive() -> None:
        heard_s = time.perf_counter()
        while sum(ended.values()) < requests and time.perf_counter() - heard_s < STALL_TIMEOUT_S + requests / rate:
            fetched = await consumer.getmany(timeout_ms=200)
            now_s = time.perf_counter()
            for tp, records in fetched.items():
                heard_s = now_s
                for record in records:
                    event, topic = decode(record.value), topics[tp.topic]
                    journey = journeys.get(event.request_id)
                    if journey is None:
                        continue
                    if topic == PREDICTIONS:
                        journey.run_s = _run_s(event) or journey.run_s
                    else:
                        ended[topic] += not journey.completed_s
                        journey.completed_s.append(now_s)

    gc.collect()
    gc.freeze()
    receiving = asyncio.create_task(receive())
    late_s = 0.0
    for user_id, request_id, value in load:
        intended_s = journeys[request_id].intended_s
        wait_s = intended_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        late_s = max(late_s, time.perf_counter() - intended_s)
        await producer.send(
            prefix + REQUESTED, value, key=user_id.encode(), partition=partition_of(user_id, partitions)
        )
    with suppress(TimeoutError):
        await asyncio.wait_for(receiving, WHOLE_TIMEOUT_S)
    await producer.stop()
    await consumer.stop()
    return _figures(list(journeys.values())[warm_up:], epoch_s) | {
        "sent": requests,
        "completed": ended[COMPLETED],
        "failed": ended[FAILED],
        "rejected": ended[REJECTED],
        "told_twice": sum(len(journey.completed_s) > 1 for journey in journeys.values()),
        "sent_late_max_ms": round(late_s * 1000, 1),
    }


def _run_s(event: _Event) -> float | None:
    """How long the run took at the provider, from its creation to its end."""
    began_s, ended_s = seconds_of(event.prediction.created_at), seconds_of(event.prediction.completed_at)
    return ended_s - began_s if event.status == "succeeded" and began_s is not None and ended_s is not None else None


def _figures(journeys: list[_Journey], epoch_s: float) -> dict[str, Any]:
    done = [journey for journey in journeys if journey.completed_s]
    whole = sorted((journey.completed_s[0] - journey.intended_s) * 1000 for journey in done)
    own = sorted((journey.completed_s[0] - journey.intended_s - journey.run_s) * 1000 for journey in done)
    at = sorted(journey.completed_s[0] for journey in done)
    first, last = (int(len(at) * share) for share in STEADY)
    return {
        "per_s": round((last - first) / (at[last] - at[first]), 1) if at and at[last] > at[first] else None,
        "steady_ms": [round((at[number] + epoch_s) * 1000) for number in (first, last)] if at else None,
        "steady_requests": last - first,
        "own_p50_ms": _percentile(own, 0.50),
        "own_p99_ms": _percentile(own, 0.99),
        "own_max_ms": _percentile(own, 1.0),
        "p50_ms": _percentile(whole, 0.50),
        "p99_ms": _percentile(whole, 0.99),
    }


def main(arguments: list[str]) -> None:
    """One measurement."""
    kafka, prefix, partitions, users, rate, requests, warm_up, seed = arguments
    measured = uvloop.run(
        measure(kafka, prefix, int(partitions), int(users), float(rate), int(requests), int(warm_up), int(seed))
    )
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
