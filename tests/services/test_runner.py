"""The services together: they wait for servers that are away, stop loudly on a bug, and end in time."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from aiokafka import AIOKafkaConsumer

from adapters.blobs import open_blobs
from adapters.postgres import close_pool, open_pool
from models.errors import Unavailable
from models.facts import read_prediction
from models.topics import PREDICTIONS
from services.hands import Hands
from services.runner import run_services, run_together
from streams.publisher import Publisher
from streams.settings import Settings

from .world import World, until


class Scripted:
    """A service whose rounds are given: a number is claimed, an error is raised; then it is idle."""

    idle_s = 0.05

    def __init__(self, name: str, *rounds: int | Exception) -> None:
        self.name = name
        self.hands = Hands(name, 2)
        self.rounds = list(rounds)
        self.looks = 0

    async def tick(self) -> int:
        self.looks += 1
        following = self.rounds.pop(0) if self.rounds else 0
        if isinstance(following, Exception):
            raise following
        return following


async def test_a_server_that_is_away_is_waited_for() -> None:
    service = Scripted("waiting", Unavailable("Postgres", "away"), Unavailable("Postgres", "away"), 1)
    stop = asyncio.Event()
    running = asyncio.create_task(run_together([service], stop))

    async def has_gone_on() -> bool:
        return not service.rounds

    await until(has_gone_on, "it goes on")
    stop.set()
    await running


async def test_a_bug_in_one_service_stops_all_loudly() -> None:
    healthy = Scripted("healthy")
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(5.0):
            await run_together([healthy, Scripted("broken", 1, ZeroDivisionError())], asyncio.Event())
    looks = healthy.looks
    await asyncio.sleep(0.1)
    assert healthy.looks == looks


async def test_a_bug_in_a_piece_of_work_is_not_swallowed() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    service = Scripted("working")
    service.hands.take(broken())
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(5.0):
            await run_together([service], asyncio.Event())


async def test_work_that_does_not_end_is_cancelled_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runner.DRAIN_S", 0.2)
    was_cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            was_cancelled.set()

    service, stop = Scripted("busy"), asyncio.Event()
    service.hands.take(endless())
    stop.set()
    async with asyncio.timeout(2.0):
        await run_together([service], stop)
    assert was_cancelled.is_set()


async def test_an_idle_service_looks_seldom_but_not_too_seldom() -> None:
    service, stop = Scripted("idle"), asyncio.Event()
    running = asyncio.create_task(run_together([service], stop))
    await asyncio.sleep(0.5)
    stop.set()
    await running
    assert 5 <= service.looks <= 12


async def test_hands_hold_no_more_than_their_limit() -> None:
    hands, release = Hands("test", 2), asyncio.Event()

    async def wait() -> None:
        await release.wait()

    hands.take(wait())
    hands.take(wait())
    assert await hands.wait_free(1, 0.05) == 0
    release.set()
    assert await hands.wait_free(2, 5.0) == 2


async def test_the_fulfilment_services_publish_to_kafka_and_stop_in_time(
    settings: Settings, applied_topics: list[str], world: World
) -> None:
    await world.queue("u1", "r1")
    settings = settings.model_copy(update={"replicate_base_url": world.emulator_url, "replicate_api_token": "r8_x"})
    pool = await open_pool(settings.require("postgres"), size_max=4, application="test")
    publisher = Publisher(settings.require("kafka"), client_id="test", topic_prefix=settings.topic_prefix)
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + PREDICTIONS,
        bootstrap_servers=settings.require("kafka"),
        auto_offset_reset="earliest",
    )
    await consumer.start()
    stop = asyncio.Event()
    running = asyncio.create_task(run_services(settings, pool, publisher, stop))
    try:
        async with asyncio.timeout(15.0):
            record = await consumer.getone()
        fact = read_prediction(record.value)
        row = await world.row("u1", "r1")
        assert (record.key, getattr(fact, "prediction_id", None)) == (b"u1", row["prediction_id"])
        began = time.monotonic()
        stop.set()
        await running
        assert time.monotonic() - began < 8.0
    finally:
        running.cancel()
        await consumer.stop()
        await publisher.close()
        await close_pool(pool)


async def test_the_fulfilment_services_sweep_what_nobody_has(settings: Settings, world: World) -> None:
    settings = settings.model_copy(update={"replicate_base_url": world.emulator_url, "replicate_api_token": "r8_x"})
    blobs = open_blobs(settings.blob_location)
    old, young = f"images/00/{0:064x}.jpg", f"images/00/{1:064x}.jpg"
    for key, age_s in ((old, 25 * 3600), (young, 23 * 3600)):
        await blobs.put(key, b"x")
        os.utime(f"{settings.blob_location}/{key}", (time.time() - age_s,) * 2)
    pool = await open_pool(settings.require("postgres"), size_max=4, application="test")
    publisher = Publisher(settings.require("kafka"), client_id="test", topic_prefix=settings.topic_prefix)
    stop = asyncio.Event()
    running = asyncio.create_task(run_services(settings, pool, publisher, stop))
    try:

        async def is_swept() -> bool:
            return not await blobs.exists(old)

        await until(is_swept, "the orphan is gone")
        assert await blobs.exists(young)
        stop.set()
        await running
    finally:
        running.cancel()
        await publisher.close()
        await close_pool(pool)
