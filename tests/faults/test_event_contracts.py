"""A whole system on real servers: a CloudEvents library reads all that it says, and each request keeps its trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft7Validator

from devstack.emulator.options import LOCAL_WEBHOOK_SECRET
from models.event_catalogue import CATALOGUE
from models.event_headers import event_id_of
from models.outputs import Header
from models.topics import (
    ADMITTED,
    COMPLETED,
    CREDITS,
    FAILED,
    GRANTED,
    LIMITS,
    PREDICTIONS,
    REJECTED,
    REQUESTED,
    STORED,
    TOPICS,
)
from streams.limit_levers import change_limits
from streams.publisher import Publisher
from tests.contracts.test_asyncapi import schema_of
from tests.faults.harness import World
from tests.services.conftest import QUICK
from tests.services.door import open_door
from tests.services.emulator import emulator_apart
from tests.support.waiting import eventually

OURS = [topic for topic, event in CATALOGUE.items() if event.event_id is not None]
ASKED: dict[str, dict[str, Any]] = {
    "kept": {"operation": "studio.images"},
    "refused": {"prompt": ""},
    "broken": {"prompt": "a lake [[fault:failed]]"},
}


def trace_of(request_id: str) -> bytes:
    """One of its own for every request."""
    return f"00-{request_id.encode().hex():f<32}-b7ad6b7169203331-01".encode()


@asynccontextmanager
async def whole_system(world: World) -> AsyncIterator[Publisher]:
    """Admission, fulfilment, a webhook door and an emulated provider; a publisher to ask them with."""
    settings = world.settings
    async with AsyncExitStack() as closing:
        emulator_url = closing.enter_context(emulator_apart(replace(QUICK, distinct_pictures=4)))
        publisher = Publisher(settings.require("kafka"), client_id="asker", topic_prefix=settings.topic_prefix)
        closing.push_async_callback(publisher.close)
        door_url = await closing.enter_async_context(open_door(publisher))
        fulfilment = {
            "REPLICATE_BASE_URL": emulator_url,
            "REPLICATE_API_TOKEN": "r8_test",
            "REPLICATE_WEBHOOK_SECRET": LOCAL_WEBHOOK_SECRET,
            "DARKROOM_PUBLIC_URL": door_url,
        }
        workers = [world.start("admission"), world.start("fulfilment", **fulfilment)]
        for worker in workers:
            await worker.ready()
        yield publisher


def as_cloud_event(topic: str, record: Any) -> BaseCloudEvent:
    """The record as the library reads it, checked against what our documents say of the topic."""
    headers = dict(record.headers)
    event = from_kafka(KafkaMessage(headers, record.key, record.value), JSONFormat())
    assert (event.get_specversion(), event.get_type(), event.get_datacontenttype()) == (
        "1.0",
        topic,
        "application/json",
    )
    assert event.get_source() in {f"/darkroom/{source}" for source in CATALOGUE[topic].sources}
    assert event.get_extension("partitionkey") == event.get_data()[TOPICS[topic].key]
    Draft7Validator(schema_of(CATALOGUE[topic], "payload")).validate(event.get_data())
    texts = {name: value.decode() for name, value in headers.items()}
    Draft7Validator(schema_of(CATALOGUE[topic], "headers")).validate(texts)
    return event


async def test_every_event_can_be_read_and_carries_its_request_s_trace(world: World) -> None:
    async with whole_system(world) as publisher:
        grant = {"grant_id": "g1", "user_id": "u", "amount": 20, "kind": "bonus"}
        traced: tuple[Header, ...] = (("traceparent", trace_of("grant")),)
        await publisher.send(GRANTED, b"u", msgspec.json.encode(grant), traced)
        await world.until_acked("admission", GRANTED)
        for request_id, fields in ASKED.items():
            body = {"request_id": request_id, "user_id": "u", "operation": "maya.image", "prompt": "a lake"} | fields
            headers = (("traceparent", trace_of(request_id)), ("other", b"not passed on"))
            await publisher.send(REQUESTED, b"u", msgspec.json.encode(body), headers)
        await change_limits(world.settings, "maya.image", {"limit": 29})

        async def all_have_ended() -> bool:
            return [len(await world.read(topic)) for topic in (REJECTED, COMPLETED, FAILED)] == [1, 1, 1]

        await eventually(all_have_ended, 60, f"not all have ended; {world.tails()}")
        await world.until_acked("fulfilment", PREDICTIONS)
        await world.until_acked("fulfilment", STORED)
        records = [(topic, record) for topic in OURS for record in await world.read(topic)]

    assert {topic for topic, _ in records} == set(OURS)
    for topic, record in records:
        event, headers = as_cloud_event(topic, record), dict(record.headers)
        assert "other" not in headers
        if topic == LIMITS:
            continue
        body: Any = event.get_data()
        if topic != REJECTED:
            assert event.get_id() == event_id_of(CATALOGUE[topic], body)
        request_id = body["cause"]["reference_id"].removeprefix("u/") if topic == CREDITS else body["request_id"]
        # The provider's webhooks name the request, not its trace.
        expected = None if event.get_source() == "/darkroom/gateway" else trace_of(request_id.replace("g1", "grant"))
        assert headers.get("traceparent") == expected, f"{event.get_id()} of {event.get_source()}"
    said = {
        (topic, dict(record.headers)["ce_source"])
        for topic, record in records
        if dict(record.headers).get("traceparent")
    }
    assert {
        (ADMITTED, b"/darkroom/admit"),
        (PREDICTIONS, b"/darkroom/dispatcher"),
        (STORED, b"/darkroom/keeper"),
    } <= said
    assert {(COMPLETED, b"/darkroom/gallery"), (FAILED, b"/darkroom/settle"), (CREDITS, b"/darkroom/settle")} <= said
    rows = await world.fetch("SELECT request_id, traceparent FROM generations")
    assert dict(rows) == {name: trace_of(name).decode() for name in ("kept", "broken")}
