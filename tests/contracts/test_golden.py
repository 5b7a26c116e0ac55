"""What was on the wire once is read by today's readers, means the same, and is still what we send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from models import caching, limits
from models.cancelling import read_cancel
from models.event_audit import Announced
from models.event_catalogue import CATALOGUE, EventType
from models.facts import read_prediction, read_stored
from models.grants import read_grant
from models.outputs import LETTER_BYTES_MAX
from models.queueing import read_admitted
from models.requests import MalformedRequest, Unreadable, read_request
from models.topics import (
    ADMITTED,
    CANCEL_REQUESTED,
    COMPLETED,
    CREDITS,
    DEAD_LETTERS,
    FAILED,
    GRANTED,
    LIMITS,
    PREDICTIONS,
    REQUESTED,
    STORED,
)
from tests.contracts.golden import Golden, everything, versions
from tests.contracts.rendering import all_cases

GOLDEN = everything()
CASES = all_cases()
each_golden = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: f"{golden.topic}-{golden.path.stem}")
each_event = pytest.mark.parametrize("event", CATALOGUE.values(), ids=lambda event: event.topic)

READERS: dict[str, Callable[[bytes | None, bytes | None], object]] = {
    REQUESTED: read_request,
    ADMITTED: lambda key, value: read_admitted(value),
    PREDICTIONS: lambda key, value: read_prediction(value),
    STORED: lambda key, value: read_stored(value),
    CANCEL_REQUESTED: read_cancel,
    GRANTED: read_grant,
    CREDITS: lambda key, value: caching.read_change(value),
    LIMITS: limits.read_change,
}
"""What the readers in the registry that are ours make of a record's key and value."""


def plain(value: object) -> Any:
    """As JSON says it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def found(body: Any, place: str) -> Any:
    """The part of a body that a dotted name leads to; KeyError if there is none."""
    for name in place.split("."):
        body = body[int(name)] if isinstance(body, list) else body[name]
    return body


def decoded(event: EventType, value: bytes | None) -> msgspec.Struct:
    """The value as the type of the catalogue that loses least of it."""
    read = [msgspec.json.decode(value or b"", type=kind) for kind in _fitting(event.values, value)]
    return min(read, key=lambda one: len(lost(msgspec.json.decode(value or b""), one)))


def _fitting(kinds: tuple[type[msgspec.Struct], ...], value: bytes | None) -> Iterator[type[msgspec.Struct]]:
    problems = []
    for kind in kinds:
        try:
            msgspec.json.decode(value or b"", type=kind)
            yield kind
        except msgspec.ValidationError as error:
            problems.append(f"{kind.__name__}: {error}")
    assert len(problems) < len(kinds), problems


def lost(body: Any, value: object, place: str = "") -> set[str]:
    """The parts of a JSON body that the value read from it has not kept as they are."""
    kept = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value
    if isinstance(body, dict) and isinstance(kept, dict):
        missing = {f"{place}{name}" for name in body.keys() - kept.keys()}
        both = body.keys() & kept.keys()
        return missing.union(*(lost(body[name], kept[name], f"{place}{name}.") for name in both))
    if isinstance(body, list) and isinstance(kept, list | tuple) and len(body) == len(kept):
        return set().union(*(lost(*pair, f"{place}{n}.") for n, pair in enumerate(zip(body, kept, strict=True))))
    return set() if body == plain(kept) else {place.rstrip(".")}


@each_golden
def test_a_golden_event_is_read_as_what_it_meant(golden: Golden) -> None:
    topic, _, value, headers = golden.output
    if topic == DEAD_LETTERS:
        body: Any = {name: data.decode() for name, data in headers}
        assert len(value or b"") <= LETTER_BYTES_MAX
    else:
        body = plain(decoded(CATALOGUE[topic], value))
    assert golden.means
    assert {place: found(body, place) for place in golden.means} == golden.means


@each_golden
def test_a_golden_event_is_read_by_each_agent_that_reads_its_topic(golden: Golden) -> None:
    topic, key, value, _ = golden.output
    if topic not in READERS:
        assert topic in (COMPLETED, FAILED, DEAD_LETTERS, "generations.rejected.v1")
        return
    read = READERS[topic](key, value)
    assert not isinstance(read, Unreadable | MalformedRequest | None), read
    body = plain(msgspec.to_builtins(read))
    seen = {place: found(body, place) for place in golden.means if place.split(".")[0] in body}
    assert seen
    assert seen == {place: golden.means[place] for place in seen}


@each_golden
def test_the_audit_can_read_what_it_is_about(golden: Golden) -> None:
    topic, _, value, headers = golden.output
    announced = Announced()
    if topic in (ADMITTED, COMPLETED, FAILED, CREDITS):
        announced.see(topic, dict(headers)["ce_id"], value, 1_000, "here")
        assert announced.admitted or announced.ended or announced.balances
    assert announced.unreadable == []


@each_golden
def test_no_field_of_a_golden_event_is_lost(golden: Golden) -> None:
    """A field that is removed, renamed or given another meaning is in old events still."""
    topic, _, value, _ = golden.output
    if topic != DEAD_LETTERS:
        assert lost(msgspec.json.decode(value or b""), decoded(CATALOGUE[topic], value)) == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.topic}-{case.name}")
def test_what_is_sent_today_is_its_newest_golden_copy(case: Any) -> None:
    known = versions(case)
    hint = "the form of an event has changed: if it must, `python -m tests.contracts.golden` adds its new form"
    assert known, hint
    assert known[-1].output == case.output, hint
    assert known[-1].means == case.means


def test_no_two_cases_have_the_same_name() -> None:
    names = [(case.topic, case.name) for case in CASES]
    assert len(set(names)) == len(names)


@each_event
def test_every_event_has_a_golden_copy(event: EventType) -> None:
    assert [golden for golden in GOLDEN if golden.topic == event.topic]


@each_event
def test_every_reason_has_a_golden_copy(event: EventType) -> None:
    for kind in event.values:
        schema = msgspec.json.schema_components([kind])[1][kind.__name__]
        for name in ("reason", "kind", "source", "mode"):
            wanted = set(schema["properties"].get(name, {}).get("enum", ()))
            bodies = [msgspec.json.decode(golden.output[2] or b"") for golden in GOLDEN if golden.topic == event.topic]
            assert wanted <= {body.get(name) for body in bodies}, name


def structs_in(value: object) -> Iterator[msgspec.Struct]:
    """This struct and those within it."""
    if isinstance(value, msgspec.Struct):
        yield value
        for field in msgspec.structs.fields(value):
            yield from structs_in(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from structs_in(one)


def golden_values() -> list[Any]:
    return [decoded(CATALOGUE[one.topic], one.output[2]) for one in GOLDEN if one.topic != DEAD_LETTERS]


def example_values() -> list[Any]:
    return [value for event in CATALOGUE.values() for value in event.examples.values()]


@pytest.mark.parametrize("values_of", [golden_values, example_values])
def test_every_field_of_every_event_is_used_somewhere(values_of: Callable[[], list[Any]]) -> None:
    """Else nobody would notice that it has gone."""
    used: dict[str, set[str]] = {}
    wanted: dict[str, set[str]] = {}
    for struct in (struct for value in values_of() for struct in structs_in(value)):
        name = type(struct).__name__
        wanted[name] = {field.encode_name for field in msgspec.structs.fields(struct)}
        used.setdefault(name, set()).update(plain(struct))
    assert used == wanted
    assert {kind.__name__ for event in CATALOGUE.values() for kind in event.values} <= used.keys()


@each_event
def test_a_field_that_is_removed_or_renamed_is_noticed(event: EventType) -> None:
    values = [golden.output[2] or b"" for golden in GOLDEN if golden.topic == event.topic]
    for kind in event.values:
        fields = msgspec.structs.fields(kind)
        own = [value for value in values if type(decoded(event, value)) is kind]
        for gone in fields:
            rest = [(field.name, field.type, None) for field in fields if field is not gone]
            for changed in (rest, [*rest, (f"new_{gone.name}", Any, None)]):
                other = msgspec.defstruct(kind.__name__, changed, omit_defaults=True)
                missed = [lost(msgspec.json.decode(value), msgspec.json.decode(value, type=other)) for value in own]
                assert gone.encode_name in set().union(*missed)
