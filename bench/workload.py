"""What both contestants get: users with booked credits, and requests on a topic in a seeded order."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer

from streams.partitioning import partition_of

CREDITS = 1000
BATCH_BYTES = 16 * 1024
IN_FLIGHT_MAX = 64
_PLACES = ("a quiet harbour", "a mountain road", "an old library", "a garden after rain", "a street at night")
_LIGHTS = ("at dawn", "in morning fog", "in soft window light", "under a low sun", "by candlelight")


@dataclass(frozen=True)
class Workload:
    """`requests` records by `users` users; `repeats` is the share of them that repeat an earlier record."""

    requests: int
    users: int
    partitions: int
    repeats: float
    seed: int

    def records(self) -> Iterator[tuple[str, str, bytes]]:
        """(user_id, request_id, value), the same for the same seed."""
        rng = random.Random(self.seed)
        names = user_names(self.users)
        recent: list[tuple[str, str, bytes]] = []
        for number in range(self.requests):
            if recent and rng.random() < self.repeats:
                yield rng.choice(recent)
                continue
            record = one_request(rng, rng.choice(names), number)
            if len(recent) < 5000:
                recent.append(record)
            else:
                recent[number % 5000] = record
            yield record


def user_names(users: int) -> list[str]:
    """The ids of all users."""
    return [f"user-{number:06}" for number in range(users)]


def zipf_picks(rng: random.Random, users: int, exponent: float, picks: int) -> list[int]:
    """Numbers of users, where the one of rank r is picked in proportion to r^-exponent."""
    weights = itertools.accumulate((rank + 1) ** -exponent for rank in range(users))
    return rng.choices(range(users), cum_weights=list(weights), k=picks)


def one_request(rng: random.Random, user_id: str, number: int) -> tuple[str, str, bytes]:
    """(user_id, request_id, value) of one well-formed request."""
    request_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    body = {
        "request_id": request_id,
        "user_id": user_id,
        "operation": "maya.image",
        "prompt": f"{rng.choice(_PLACES)} {rng.choice(_LIGHTS)}, number {number}",
    }
    return user_id, request_id, msgspec.json.encode(body)


async def book_credits(postgres_url: str, users: int) -> None:
    """Give every user an account with bought credits, so that the books balance from the start."""
    connection = await asyncpg.connect(postgres_url, timeout=10, command_timeout=120)
    try:
        names = user_names(users)
        async with connection.transaction():
            await connection.copy_records_to_table(
                "accounts", records=[(name, CREDITS, 1) for name in names], columns=("user_id", "balance", "version")
            )
            await connection.copy_records_to_table(
                "ledger",
                records=[(name, CREDITS, "purchase", f"purchase-{name}", CREDITS, 1) for name in names],
                columns=("user_id", "amount", "kind", "reference_id", "balance_after", "version"),
            )
        await connection.execute("VACUUM ANALYZE accounts")
        await connection.execute("VACUUM ANALYZE ledger")
    finally:
        await connection.close()


async def preload(bootstrap: str, topic: str, workload: Workload) -> None:
    """Put all records on the topic, in batches of the size that a Kafka client makes by default."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=1 << 20, linger_ms=0
    )
    await producer.start()
    try:
        partitions = {name: partition_of(name, workload.partitions) for name in user_names(workload.users)}
        open_batches: dict[int, tuple[Any, int]] = {}
        acks: set[asyncio.Future[Any]] = set()

        async def send(partition: int) -> None:
            batch, _ = open_batches.pop(partition)
            batch.close()
            if len(acks) >= IN_FLIGHT_MAX:
                await _settle(acks)
            acks.add(await producer.send_batch(batch, topic, partition=partition))

        for user_id, _, value in workload.records():
            partition = partitions[user_id]
            batch, size_bytes = open_batches.get(partition) or (producer.create_batch(), 0)
            batch.append(key=user_id.encode(), value=value, timestamp=None)
            open_batches[partition] = (batch, size_bytes + len(value) + 30)
            if open_batches[partition][1] >= BATCH_BYTES:
                await send(partition)
        for partition in list(open_batches):
            await send(partition)
        await asyncio.wait_for(asyncio.gather(*acks), timeout=60)
    finally:
        await producer.stop()


async def _settle(acks: set[asyncio.Future[Any]]) -> None:
    done, _ = await asyncio.wait(acks, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        raise TimeoutError("Kafka took none of the preloaded requests for 60 s")
    for ack in done:
        acks.discard(ack)
        ack.result()
