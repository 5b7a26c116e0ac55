"""The producer helper: where messages land, and that sending again is safe."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Producer as IndependentProducer

from models.errors import Unavailable, WrongUse
from models.grants import read_grant
from models.requests import read_request
from models.topics import GRANTED, REQUESTED
from streams.partitioning import partition_of
from streams.producer import Producer, new_grant, new_request
from streams.reading import Reader
from streams.settings import Settings, load_settings

pytestmark = pytest.mark.usefixtures("applied_topics")


async def read_all(settings: Settings, *topics: str) -> list[tuple[str, bytes | None, bytes | None, int]]:
    """(topic, key, value, partition) of everything in these topics."""
    async with Reader(settings, topics) as reader:
        await reader.start_at_beginning()
        ends = await reader.end_offsets()
        found = []
        while await reader.behind(ends):
            found += [(topic, record.key, record.value, record.partition) for topic, record in await reader.read(1.0)]
        return found


async def test_requests_and_grants_arrive_as_the_agents_read_them(settings: Settings) -> None:
    request = new_request("ada", "studio.images", "a quiet harbour", num_outputs=2, aspect_ratio="1:1", seed=7)
    grant = new_grant("ada", 5, "bonus")
    async with Producer(settings) as producer:
        place = await producer.request(request)
        assert (await producer.grant(grant)).topic == GRANTED
    found = {
        topic: (key, value, partition) for topic, key, value, partition in await read_all(settings, REQUESTED, GRANTED)
    }
    assert found[REQUESTED][2] == place.partition
    assert read_request(*found[REQUESTED][:2]) == request
    assert read_grant(*found[GRANTED][:2]) == grant


async def test_the_same_message_sent_again_is_the_same_message(settings: Settings) -> None:
    request = new_request("ada", "maya.image", "a quiet harbour")
    async with Producer(settings) as producer:
        first, second = await producer.request(request), await producer.request(request)
    assert (first.partition, first.offset + 1) == (second.partition, second.offset)
    values = [value for _, _, value, _ in await read_all(settings, REQUESTED)]
    assert len(values) == 2
    assert values[0] == values[1]


async def test_users_land_where_another_client_puts_them(settings: Settings) -> None:
    places: dict[str, int] = {}
    other = IndependentProducer({"bootstrap.servers": settings.require("kafka"), "partitioner": "murmur2_random"})
    for number in range(64):
        user_id = f"user-{number}"
        other.produce(
            settings.topic_prefix + REQUESTED, b"{}", key=user_id.encode(),
            on_delivery=lambda error, message, user_id=user_id: places.update({user_id: message.partition()}),
        )  # fmt: skip
    other.flush(20)
    assert places == {user_id: partition_of(user_id, settings.partitions) for user_id in places}
    assert set(places.values()) == set(range(settings.partitions))
    async with Producer(settings) as producer:
        for user_id in ("user-1", "user-2", "user-3"):
            place = await producer.request(new_request(user_id, "maya.image", "x"))
            assert place.partition == places[user_id]


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        (("a b", "maya.image", "x"), {}, "user_id"),
        (("ada", "nothing", "x"), {}, "operation"),
        (("ada", "maya.image", ""), {}, "prompt"),
        (("ada", "maya.image", "x\0"), {}, "prompt"),
        (("ada", "maya.image", "\udc00"), {}, "UTF-8"),
        (("ada", "maya.image", "x"), {"num_outputs": 99}, "num_outputs"),
        (("ada", "maya.image", "x"), {"request_id": "a/b"}, "request_id"),
    ],
)
def test_a_request_that_would_be_invalid_is_refused_by_name(
    arguments: tuple[str, str, str], options: dict[str, object], named: str
) -> None:
    with pytest.raises(WrongUse, match=named):
        new_request(*arguments, **options)


@pytest.mark.parametrize(("amount", "kind", "named"), [(0, "bonus", "amount"), (5, "gift", "kind")])
def test_a_grant_that_nobody_would_book_is_refused(amount: int, kind: str, named: str) -> None:
    with pytest.raises(WrongUse, match=named):
        new_grant("ada", amount, kind)


async def test_a_broker_that_is_away_is_unavailable_within_the_timeout() -> None:
    settings = load_settings(kafka="127.0.0.1:1")
    began = time.monotonic()
    async with Producer(settings) as producer:
        with pytest.raises(Unavailable):
            await producer.request(new_request("ada", "maya.image", "x"), timeout_s=1.5)
    assert time.monotonic() - began < 6
