"""The AsyncAPI 3.0 document: every topic with who writes and reads it, and what its records are. Pure.

Made from the topic registry and the catalogue of events, so it says nothing that the code does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from inspect import cleandoc
from typing import Any

import msgspec

from models.event_catalogue import CATALOGUE, OUTSIDE, EventType
from models.event_examples import TRACEPARENT
from models.event_headers import HEADER_SCHEMAS, example_headers, header_schema
from models.requests import ID_PATTERN, VALUE_BYTES_MAX
from models.topics import TOPICS, Topic

PARTITIONS = 8
CONTRACT_VERSION = "1.0.0"
_BINDING_VERSION = "0.5.0"
_DESCRIPTION = f"""\
Requests go in on Kafka; answers, finished pictures and balances come out.

Every key is the user's id, so all that concerns a user is in one partition of each topic, which is chosen as the Java
client does (murmur2). Values are JSON objects of at most {VALUE_BYTES_MAX} bytes; unknown fields are ignored. Events
may come twice: copies have the same `ce_id`. Their time is the record's timestamp, given by the broker.
"""


def document(partitions: int = PARTITIONS) -> dict[str, Any]:
    """The whole document for topics of this many partitions."""
    types = [value for event in CATALOGUE.values() for value in event.values]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Darkroom events", "version": CONTRACT_VERSION, "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "The brokers that DARKROOM_KAFKA names.",
                "variables": {"bootstrap": {"default": "localhost:9092", "description": "host:port of a broker"}},
            }
        },
        "channels": {name_of(topic.name): _channel(topic, partitions) for topic in TOPICS.values()},
        "operations": dict(_operation(*one) for one in _parts_of_ours()),
        "components": {
            "messages": {name_of(event.topic): _message(event) for event in CATALOGUE.values()},
            "schemas": HEADER_SCHEMAS | {name: _portable(schema) for name, schema in schemas.items()},
            "correlationIds": {
                "request": {"location": "$message.payload#/request_id", "description": "The request it is about."}
            },
        },
    }


def name_of(topic: str) -> str:
    """The topic's name within the document: an identifier in most languages, for tools that make code of it."""
    return re.sub(r"\W", "_", topic)


def document_json(partitions: int = PARTITIONS) -> bytes:
    """The document as indented JSON, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(document(partitions)), indent=2) + b"\n"


def _channel(topic: Topic, partitions: int) -> dict[str, Any]:
    kept = "the latest of each key" if topic.compacted else f"{topic.retention_s // 86_400} days"
    return {
        "address": topic.name,
        "summary": CATALOGUE[topic.name].summary,
        "description": f"Written by {_list(topic.writers)}; read by {_list(topic.readers)}. Kept: {kept}.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {"event": {"$ref": f"#/components/messages/{name_of(topic.name)}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": partitions,
                "topicConfiguration": _configuration(topic),
                "bindingVersion": _BINDING_VERSION,
            }
        },
        "x-writers": list(topic.writers),
        "x-readers": list(topic.readers),
    }


_CONFIGURATION_FORMS: Mapping[str, Callable[[str], object]] = {
    "cleanup.policy": lambda value: value.split(","),
    "retention.ms": int,
    "max.message.bytes": int,
}


def _configuration(topic: Topic) -> dict[str, object]:
    """The topic's settings with the types that the Kafka binding wants."""
    return {name: _CONFIGURATION_FORMS.get(name, str)(value) for name, value in topic.configuration().items()}


def _parts_of_ours() -> list[tuple[str, str, str]]:
    """(who, sends or receives, topic) for every writer and reader that is Darkroom's."""
    parts = [(who, "send", topic.name) for topic in TOPICS.values() for who in topic.writers]
    parts += [(who, "receive", topic.name) for topic in TOPICS.values() for who in topic.readers]
    return sorted(part for part in parts if part[0] not in OUTSIDE)


def _operation(who: str, action: str, topic: str) -> tuple[str, dict[str, Any]]:
    channel = f"#/channels/{name_of(topic)}"
    return f"{who}_{action}s_{name_of(topic)}", {
        "action": action,
        "channel": {"$ref": channel},
        "summary": f"{who} {action}s {topic}",
        "messages": [{"$ref": f"{channel}/messages/event"}],
        "tags": [{"name": who}],
    }


def _message(event: EventType) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": event.topic,
        "title": event.topic,
        "summary": event.summary,
        "contentType": "application/json" if event.values else "application/octet-stream",
        "headers": header_schema(event),
        "payload": _payload(event),
        "bindings": {"kafka": {"key": _key(TOPICS[event.topic]), "bindingVersion": _BINDING_VERSION}},
        "examples": [_example(event, case) for case in event.examples],
    }
    if event.values and all("request_id" in value.__struct_fields__ for value in event.values):
        message["correlationId"] = {"$ref": "#/components/correlationIds/request"}
    if event.may_be_empty:
        message["description"] = "A record without a value takes back what was said of its key."
    return message


def _payload(event: EventType) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{value.__name__}"} for value in event.values]
    if not references:
        return {"type": "string", "format": "binary", "description": "The original value."}
    return references[0] if len(references) == 1 else {"anyOf": references}


def _key(topic: Topic) -> dict[str, Any]:
    if topic.key == "user_id":
        return {"type": "string", "pattern": _portable(ID_PATTERN), "description": "The user's id."}
    return {"type": "string", "description": f"The {topic.key}."}


def _example(event: EventType, case: str) -> dict[str, Any]:
    value = event.examples[case]
    payload = value.decode() if isinstance(value, bytes) else msgspec.to_builtins(value)
    return {"name": case, "headers": example_headers(event, payload, TRACEPARENT), "payload": payload}


def _portable(schema: Any) -> Any:
    """A schema as others read it: `\\Z` is Python's own, and docstrings are indented."""
    if isinstance(schema, Mapping):
        return {
            name: cleandoc(part) if name == "description" and isinstance(part, str) else _portable(part)
            for name, part in schema.items()
        }
    if isinstance(schema, list | tuple):
        return [_portable(part) for part in schema]
    return schema.replace("\\Z", "$") if isinstance(schema, str) else schema


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)
