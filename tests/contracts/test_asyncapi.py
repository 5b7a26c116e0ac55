"""The AsyncAPI document is whole, says what the registry says, and describes the events that there are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from cli.documents import FOLDER
from models.asyncapi import PARTITIONS, document_json, name_of
from models.event_catalogue import CATALOGUE, OUTSIDE, EventType
from models.topics import DEAD_LETTERS, TOPICS

with warnings.catch_warnings(action="ignore"):
    from asyncapi3 import AsyncAPI3

DOCUMENT: dict[str, Any] = msgspec.json.decode(document_json())
EVENTS = pytest.mark.parametrize("event", CATALOGUE.values(), ids=lambda event: event.topic)
CASES = pytest.mark.parametrize(
    ("event", "case"),
    [pytest.param(event, case, id=f"{event.topic}-{case}") for event in CATALOGUE.values() for case in event.examples],
)


def references(part: Any) -> Iterator[str]:
    """Every $ref below this part."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def resolved(reference: str) -> Any:
    """What a reference within the document points at; fails when there is nothing."""
    assert reference.startswith("#/"), reference
    part: Any = DOCUMENT
    for name in reference[2:].split("/"):
        part = part[name]
    return part


def schema_of(event: EventType, part: str) -> dict[str, Any]:
    """The schema of an event's `payload` or `headers`, with the components that it refers to."""
    message = DOCUMENT["components"]["messages"][name_of(event.topic)]
    return message[part] | {"components": DOCUMENT["components"]}


def message_of(event: EventType, case: str) -> dict[str, Any]:
    examples = DOCUMENT["components"]["messages"][name_of(event.topic)]["examples"]
    return next(example for example in examples if example["name"] == case)


def test_the_committed_document_is_the_registry_s() -> None:
    assert (FOLDER / "asyncapi.json").read_bytes() == document_json(), "run `python -m cli.documents`"


def test_it_is_an_asyncapi_3_document() -> None:
    """By an object model that is not ours, which knows every field and binding and allows no others."""
    assert AsyncAPI3.model_validate(DOCUMENT).asyncapi == "3.0.0"


def test_a_field_that_asyncapi_does_not_know_would_be_noticed() -> None:
    broken = msgspec.json.decode(document_json())
    broken["channels"][name_of(DEAD_LETTERS)]["bindings"]["kafka"]["partition"] = 8
    with pytest.raises(ValueError, match="partition"):
        AsyncAPI3.model_validate(broken)


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert resolved(reference), reference


def test_every_component_is_used() -> None:
    used = set(references(DOCUMENT))
    for kind, parts in DOCUMENT["components"].items():
        assert {f"#/components/{kind}/{name}" for name in parts} <= used


def test_every_topic_is_a_channel_with_its_message_and_its_settings() -> None:
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == set(TOPICS) == set(CATALOGUE)
    for topic in TOPICS.values():
        channel = DOCUMENT["channels"][name_of(topic.name)]
        (reference,) = references(channel["messages"])
        assert resolved(reference)["name"] == topic.name
        binding = channel["bindings"]["kafka"]
        assert (binding["topic"], binding["partitions"]) == (topic.name, PARTITIONS)
        assert ("compact" in binding["topicConfiguration"]["cleanup.policy"]) == topic.compacted
        assert (channel["x-writers"], channel["x-readers"]) == (list(topic.writers), list(topic.readers))


def test_the_operations_are_the_writers_and_readers_that_are_ours() -> None:
    found = set()
    for operation in DOCUMENT["operations"].values():
        channel = resolved(operation["channel"]["$ref"])
        (message,) = operation["messages"]
        assert message["$ref"] == operation["channel"]["$ref"] + "/messages/event"
        found.add((operation["tags"][0]["name"], operation["action"], channel["address"]))
    registered = {(who, "send", topic.name) for topic in TOPICS.values() for who in topic.writers}
    registered |= {(who, "receive", topic.name) for topic in TOPICS.values() for who in topic.readers}
    assert found == {one for one in registered if one[0] not in OUTSIDE}


@EVENTS
@pytest.mark.parametrize("part", ["payload", "headers"])
def test_every_schema_is_one(event: EventType, part: str) -> None:
    Draft7Validator.check_schema(schema_of(event, part))
    Draft202012Validator.check_schema(schema_of(event, part))


def test_no_schema_has_what_only_python_understands() -> None:
    """`\\Z` is the end of the text for Python and the letter Z for others."""
    assert b"\\\\Z" not in document_json()


@CASES
def test_every_example_is_valid(event: EventType, case: str) -> None:
    example = message_of(event, case)
    Draft7Validator(schema_of(event, "payload")).validate(example["payload"])
    Draft7Validator(schema_of(event, "headers")).validate(example["headers"])


@CASES
def test_an_example_without_a_required_field_is_not_valid(event: EventType, case: str) -> None:
    """Were the schemas empty, every example would be valid."""
    payload = message_of(event, case)["payload"]
    wanted = required_of(event.examples[case])
    assert wanted or event.topic == DEAD_LETTERS
    for name in wanted:
        rest = {other: part for other, part in payload.items() if other != name}
        # A training's completion is one without its model too.
        assert not Draft7Validator(schema_of(event, "payload")).is_valid(rest) or name == "model", name


def required_of(value: msgspec.Struct | bytes) -> set[str]:
    fields = () if isinstance(value, bytes) else msgspec.structs.fields(value)
    return {field.encode_name for field in fields if field.required}


@CASES
def test_every_example_is_a_value_of_its_type(event: EventType, case: str) -> None:
    value = event.examples[case]
    if isinstance(value, bytes):
        assert event.values == ()
        return
    assert type(value) in event.values
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_reasons_and_operations_are_listed() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert len(schemas["GenerationRejected"]["properties"]["reason"]["enum"]) == 4
    assert len(schemas["GenerationFailed"]["properties"]["reason"]["enum"]) == 5
    assert "maya.image" in schemas["Request"]["properties"]["operation"]["enum"]
    assert schemas["Request"]["properties"]["request_id"]["pattern"] == "^[A-Za-z0-9._:\\-]{1,128}$"
