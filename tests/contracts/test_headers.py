"""The headers of every event that we produce, as a CloudEvents library that is not ours reads them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft7Validator

from models.event_catalogue import CATALOGUE
from models.event_headers import event_id_of
from models.topics import DEAD_LETTERS, TOPICS
from tests.contracts.fixed import PLACE, TRACE, Case
from tests.contracts.golden import Golden, everything
from tests.contracts.rendering import all_cases
from tests.contracts.test_asyncapi import schema_of

CASES = all_cases()
OURS = [case for case in CASES if CATALOGUE[case.topic].event_id is not None]
named = {"ids": lambda case: f"{case.topic}-{case.name}"}


def place_of(case: Case) -> dict[str, Any]:
    return {name: PLACE[name] for name in ("partition", "offset")}


@pytest.mark.parametrize("case", OURS, **named)
def test_a_cloudevents_library_reads_every_event_of_ours(case: Case) -> None:
    topic, key, value, headers = case.output
    assert len(dict(headers)) == len(headers)
    event = from_kafka(KafkaMessage(dict(headers), key, value or b""), JSONFormat())
    assert (event.get_specversion(), event.get_type(), event.get_datacontenttype()) == (
        "1.0",
        topic,
        "application/json",
    )
    body = msgspec.json.decode(value or b"")
    assert event.get_data() == body
    catalogued = CATALOGUE[topic]
    assert event.get_source() in {f"/darkroom/{source}" for source in catalogued.sources}
    assert event.get_id() == event_id_of(catalogued, body, **place_of(case))
    assert event.get_extension("partitionkey") == body[TOPICS[topic].key]


def test_every_topic_of_ours_has_been_read() -> None:
    ours = {topic for topic, event in CATALOGUE.items() if event.event_id is not None}
    assert {case.topic for case in OURS} == ours
    for topic in ours:
        said = {dict(case.output[3])["ce_source"].decode().rpartition("/")[2] for case in OURS if case.topic == topic}
        # What the others of its writers say is rendered by the same code, under their own name.
        assert said <= set(CATALOGUE[topic].sources)


@pytest.mark.parametrize("case", [case for case in CASES if CATALOGUE[case.topic].event_id is None], **named)
def test_what_comes_in_or_is_buried_is_no_cloud_event_of_ours(case: Case) -> None:
    names = {name for name, _ in case.output[3]}
    assert not any(name.startswith("ce_") for name in names)
    assert ("dl_reason" in names) == (case.topic == DEAD_LETTERS)


@pytest.mark.parametrize("golden", everything(), ids=lambda golden: f"{golden.topic}-{golden.path.stem}")
def test_every_event_is_as_the_asyncapi_document_says(golden: Golden) -> None:
    topic, key, value, headers = golden.output
    event = CATALOGUE[topic]
    Draft7Validator(schema_of(event, "headers")).validate({name: data.decode() for name, data in headers})
    if topic != DEAD_LETTERS:
        Draft7Validator(schema_of(event, "payload")).validate(msgspec.json.decode(value or b""))
        binding = schema_of(event, "bindings")["kafka"]
        Draft7Validator(binding["key"]).validate((key or b"").decode())


def test_events_of_a_request_with_a_trace_carry_it() -> None:
    traced = {case.topic for case in CASES if dict(case.output[3]).get("traceparent") == TRACE.encode()}
    assert traced == set(TOPICS) - {"limits.changed.v1", "credits.granted.v1", "generations.cancel_requested.v1"}
