"""Producers that are not ours: other codecs, other partitioners, transactions, records at the size limit."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from confluent_kafka import Producer

from models.topics import ADMITTED, CREDITS, DEAD_LETTERS, GRANTED, REJECTED, REQUESTED
from streams.event_audit import audit_events
from streams.partitioning import partition_of
from tests.faults.harness import World, event_ids, request
from tests.support.waiting import eventually


def foreign_producer(world: World, **options: object) -> Any:
    return Producer({"bootstrap.servers": world.settings.kafka, "linger.ms": 0} | options)


async def admitted(world: World) -> set[str]:
    return {name.split("/")[1] for name in event_ids(await world.read(ADMITTED))}


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_requests_are_admitted(world: World, codec: str) -> None:
    await world.open_accounts(["u"], 100)
    await world.start().ready()
    producer = foreign_producer(world, **{"compression.type": codec, "partitioner": "murmur2_random"})
    key, value = request(codec, "u", prompt="a harbour " * 50)
    producer.produce(world.settings.topic_prefix + REQUESTED, value, key)
    await asyncio.to_thread(producer.flush, 10)
    await world.until_acked("admission", REQUESTED)
    assert await admitted(world) == {codec}


async def test_requests_in_the_wrong_partition_are_sent_on_and_the_limit_holds(world: World) -> None:
    await world.open_accounts(["u"], 500)
    await world.start().ready()
    producer = foreign_producer(world)
    for number in range(120):
        key, value = request(f"r{number}", "u")
        producer.produce(world.settings.topic_prefix + REQUESTED, value, key, partition=number % 4)
    await asyncio.to_thread(producer.flush, 10)

    async def all_are_answered() -> bool:
        rows = await world.fetch("SELECT count(*) FROM generations")
        return rows[0][0] == 30 and len(await world.read(REQUESTED)) == 120 + 90

    await eventually(all_are_answered, 20, f"sent on and limited; {world.tails()}")
    await world.until_acked("admission", REQUESTED)
    assert await world.fetch("SELECT count(*), min(partition) = max(partition) FROM generations") == [(30, True)]


async def test_what_a_transaction_took_back_is_not_charged(world: World) -> None:
    await world.open_accounts(["u"], 100)
    await world.start().ready()
    producer = foreign_producer(world, **{"transactional.id": "t1", "partitioner": "murmur2_random"})
    await asyncio.to_thread(producer.init_transactions, 20)
    for name, end in (("aborted", producer.abort_transaction), ("committed", producer.commit_transaction)):
        producer.begin_transaction()
        key, value = request(name, "u")
        producer.produce(world.settings.topic_prefix + REQUESTED, value, key)
        await asyncio.to_thread(producer.flush, 10)
        await asyncio.to_thread(end, 10)
    await world.produce(REQUESTED, [request("after", "u")])
    await eventually(lambda: _has(world, "after"), 20, f"the later request is admitted; {world.tails()}")
    assert await admitted(world) == {"committed", "after"}
    assert await world.fetch("SELECT balance FROM accounts") == [(98,)]


async def _has(world: World, request_id: str) -> bool:
    return request_id in await admitted(world)


async def test_an_unreadable_record_at_the_size_limit_is_buried_whole_and_its_neighbours_go_on(world: World) -> None:
    await world.open_accounts(["u"], 100)
    await world.start().ready()
    producer = foreign_producer(world, **{"message.max.bytes": 2_000_000, "partitioner": "murmur2_random"})
    for value in (request("before", "u")[1], b"x" * 1_048_400, request("after", "u")[1]):
        producer.produce(world.settings.topic_prefix + REQUESTED, value, "u")
    await asyncio.to_thread(producer.flush, 10)
    await world.until_acked("admission", REQUESTED)
    (letter,) = await world.read(DEAD_LETTERS)
    assert letter.value == b"x" * 1_048_400
    assert await admitted(world) == {"before", "after"}
    assert len(await world.read(ADMITTED)) == 2


async def test_what_comes_compressed_and_is_too_large_to_be_sent_on_or_buried_whole_stops_nobody(world: World) -> None:
    """A few kilobytes on the wire: a megabyte of headers in the wrong partition, and a key of six megabytes."""
    await world.open_accounts(["u"], 100)
    worker = await world.start().ready()
    home = partition_of("u", 4)
    producer = foreign_producer(
        world, **{"compression.type": "gzip", "message.max.bytes": 20_000_000, "batch.num.messages": 1}
    )
    topic = world.settings.topic_prefix + REQUESTED
    key, value = request("sent-on", "u", prompt="x" * 3000)
    many = [("padding", b"h" * 1_040_000)]
    producer.produce(topic, value, key, partition=(home + 1) % 4, headers=many)
    producer.produce(topic, b"no json", b"k" * 6_000_000, partition=home)
    key, value = request("neighbour", "u")
    producer.produce(topic, value, key, partition=home)
    await asyncio.to_thread(producer.flush, 20)

    async def both_are_admitted() -> bool:
        return await admitted(world) == {"sent-on", "neighbour"}

    await eventually(both_are_admitted, 20, f"not admitted; {world.tails()}")
    await world.until_acked("admission", REQUESTED)
    (letter,) = await world.read(DEAD_LETTERS)
    headers = dict(letter.headers)
    assert (headers["dl_reason"], headers["dl_key_truncated"]) == (b"bad_json", b"6000000")
    assert worker.process.poll() is None


async def test_grants_and_refusals_meet_in_their_users_partition_whoever_partitions(world: World) -> None:
    await world.start().ready()
    producer = foreign_producer(world)
    home = partition_of("u", 4)
    for number in range(4):
        grant = {"grant_id": f"g{number}", "user_id": "u", "amount": 5, "kind": "bonus"}
        producer.produce(world.settings.topic_prefix + GRANTED, json.dumps(grant).encode(), b"u", partition=number)
        _, value = request(f"bad{number}", "u", prompt="")
        producer.produce(world.settings.topic_prefix + REQUESTED, value, b"u", partition=number)
        # Not keyed by its user: answered all the same, where the user's answers are.
        producer.produce(world.settings.topic_prefix + REQUESTED, value, b"else", partition=number)
    await asyncio.to_thread(producer.flush, 10)

    async def all_are_booked_and_answered() -> bool:
        booked = await world.fetch("SELECT count(*) FROM ledger")
        return booked[0][0] == 4 and len(event_ids(await world.read(REJECTED))) == 8

    await eventually(all_are_booked_and_answered, 20, f"not booked and answered; {world.tails()}")
    assert {record.partition for record in await world.read(CREDITS)} == {home}
    assert {record.partition for record in await world.read(REJECTED)} == {home}
    assert (await audit_events(world.settings)).violations == 0
