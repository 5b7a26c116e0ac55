"""What the publisher does to a log: order, offsets, partitions and time. In memory and in Kafka alike."""

from __future__ import annotations

from models.topics import ADMITTED, REJECTED, REQUESTED
from streams.partitioning import partition_of
from tests.conftest import PARTITIONS
from tests.contracts.conftest import Log


async def test_outputs_stand_in_their_order_in_the_partition_of_their_cause(log: Log) -> None:
    publisher, read = log
    await publisher.publish(2, [(ADMITTED, b"u", b"%d" % number, [("ce_id", b"x")]) for number in range(5)])
    await publisher.publish(2, [(ADMITTED, b"u", b"5", [])])
    records = await read(ADMITTED)
    assert [(r.partition, r.offset, r.key, r.value) for r in records] == [(2, n, b"u", b"%d" % n) for n in range(6)]
    assert [list(record.headers) for record in records] == [[("ce_id", b"x")]] * 5 + [[]]


async def test_time_is_the_brokers_and_does_not_go_back_by_itself(log: Log) -> None:
    publisher, read = log
    for number in range(3):
        await publisher.send(ADMITTED, b"u", b"%d" % number)
    times = [record.timestamp for record in await read(ADMITTED)]
    assert times == sorted(times)
    assert all(isinstance(at_ms, int) and at_ms > 1_700_000_000_000 for at_ms in times)


async def test_a_record_goes_to_the_partition_of_its_key_and_its_place_is_told(log: Log) -> None:
    publisher, read = log
    places = {}
    for number in range(12):
        key = f"user-{number}"
        places[key] = await publisher.send(REQUESTED, key.encode(), b"{}")
    found = {
        record.key.decode(): (record.partition, record.offset, record.timestamp) for record in await read(REQUESTED)
    }
    assert found == places
    assert {key: place[0] for key, place in places.items()} == {key: partition_of(key, PARTITIONS) for key in places}


async def test_what_is_sent_on_goes_to_its_keys_partition_and_refusals_to_their_users(log: Log) -> None:
    publisher, read = log
    home = partition_of("user-1", PARTITIONS)
    elsewhere = (home + 1) % PARTITIONS
    await publisher.publish(elsewhere, [(REQUESTED, b"user-1", b"{}", []), (REJECTED, b"user-1", b"{}", [])])
    assert [record.partition for record in await read(REQUESTED)] == [home]
    assert [record.partition for record in await read(REJECTED)] == [home]


async def test_more_than_one_batch_holds_arrives_in_order(log: Log) -> None:
    publisher, read = log
    value = b"x" * 300_000
    await publisher.publish(0, [(ADMITTED, b"%d" % number, value, []) for number in range(8)])
    assert [record.key for record in await read(ADMITTED)] == [b"%d" % number for number in range(8)]
