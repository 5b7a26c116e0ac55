"""Each contract is kept twice: by the in-memory servers of the simulation and by the real ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import simulation.running  # noqa: F401  registers what the queries do
from adapters.postgres import Pool, close_pool, open_pool
from simulation.fakes.kafka import Broker
from simulation.fakes.postgres import FakePool
from simulation.fakes.publisher import SimulatedPublisher
from simulation.fakes.tables import Store
from simulation.net import Process
from streams.publisher import Publisher
from streams.reading import Reader
from streams.settings import Settings
from tests.conftest import PARTITIONS

Log = tuple[Publisher, Callable[[str], Awaitable[list[Any]]]]


def process() -> Process:
    """One that loses no time."""
    made = Process("contract", random.Random(1))
    made.slowness_s = 0.0
    return made


def memory_pool() -> Pool:
    """An empty database in memory."""
    return FakePool(Store(), process())  # type: ignore[return-value]


@pytest.fixture
async def real_pool(database: str) -> AsyncIterator[Pool]:
    """An empty database of the real kind."""
    opened = await open_pool(database, size_max=4, application="contract")
    yield opened
    await close_pool(opened)


@pytest.fixture(params=["memory", "postgres"])
def pool(request: pytest.FixtureRequest) -> Pool:
    """First the one, then the other."""
    return memory_pool() if request.param == "memory" else request.getfixturevalue("real_pool")


@pytest.fixture
def memory_log() -> Log:
    """An empty broker in memory."""
    broker = Broker(PARTITIONS, random.Random(1))

    async def read(topic: str) -> list[Any]:
        return list(broker.topic(topic))

    return SimulatedPublisher(broker, process()), read


@pytest.fixture
async def real_log(settings: Settings, applied_topics: list[str]) -> AsyncIterator[Log]:
    """Empty topics of the real kind."""
    publisher = Publisher(settings.require("kafka"), client_id="contract", topic_prefix=settings.topic_prefix)

    async def read(topic: str) -> list[Any]:
        async with Reader(settings, [topic]) as reader:
            await reader.start_at_beginning()
            ends = await reader.end_offsets()
            found: list[Any] = []
            while await reader.behind(ends):
                found += [record for _, record in await reader.read(1.0)]
        return sorted(found, key=lambda record: (record.partition, record.offset))

    yield publisher, read
    await publisher.close()


@pytest.fixture(params=["memory", "kafka"])
def log(request: pytest.FixtureRequest) -> Log:
    """A publisher, and how to read a topic from its beginning, partition by partition."""
    made: Log = request.getfixturevalue("memory_log" if request.param == "memory" else "real_log")
    return made
