"""Whatever bytes come in, every reader answers or says why it cannot, by a stable reason; none raises.

BAD_INPUT_SEED and BAD_INPUT_PAYLOADS choose the seed and how many payloads each reader is given.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import caching, limits
from models.cancelling import read_cancel
from models.facts import read_prediction, read_stored
from models.grants import read_grant
from models.letters import read_letter
from models.outputs import check_sizes, dead_letter
from models.queueing import read_admitted
from models.requests import MalformedRequest, Request, Unreadable, is_id, read_request
from models.safe_text import safe_bytes
from tests.unit.records import FakeRecord

PAYLOADS = int(os.environ.get("BAD_INPUT_PAYLOADS") or 4000)
ANYWHERE = {"empty", "bad_utf8", "bad_json", "not_an_object"}


class Reader(NamedTuple):
    """A topic's reader, good payloads of its topic, and the reasons it may give."""

    read: Callable[[bytes | None, bytes | None], Any]
    good: list[dict[str, Any]]
    reasons: set[str]
    key: bytes = b"u1"


IDS = {"request_id": "r1", "user_id": "u1"}
URL = "https://pictures.example/1.jpg"
PICTURE = {
    "output_index": 0, "key": "a", "thumbnail_key": "b", "width": 8, "height": 8, "content_type": "image/png",
    "bytes": 9, "sha256": "0" * 64,
}  # fmt: skip
CAUSE = {"kind": "charge", "reference_id": "u1/r1", "amount": -1}
READERS = {
    "requested": Reader(
        read_request,
        [
            {**IDS, "operation": "maya.image", "prompt": "a quiet harbour", "context": {"feed_id": "f", "position": 3}},
            {**IDS, "operation": "studio.images", "prompt": "p", "options": {"num_outputs": 4, "aspect_ratio": "4:5"}},
            {**IDS, "operation": "video.animation", "prompt": "p", "options": {"image_url": URL, "seed": 1}},
            {**IDS, "operation": "training.model", "prompt": "p", "options": {"images": [URL] * 5}},
        ],
        ANYWHERE | {"no_ids"},
    ),
    "granted": Reader(
        read_grant,
        [{"grant_id": "g1", "user_id": "u1", "amount": 10, "kind": "purchase"}],
        ANYWHERE | {"bad_grant", "wrong_key"},
    ),
    "cancel_requested": Reader(read_cancel, [IDS], ANYWHERE | {"bad_cancel", "wrong_key"}),
    "admitted": Reader(lambda _, value: read_admitted(value), [IDS], ANYWHERE | {"bad_event"}),
    "updated": Reader(
        lambda _, value: read_prediction(value),
        [{**IDS, "status": "succeeded", "source": "webhook", "prediction_id": "p", "prediction": {"output": [URL]}}],
        ANYWHERE | {"bad_fact"},
    ),
    "stored": Reader(
        lambda _, value: read_stored(value),
        [{**IDS, "prediction_id": "p", "images": [PICTURE], "missing": [{"output_index": 1, "reason": "gone"}]}],
        ANYWHERE | {"bad_fact"},
    ),
    "credits_changed": Reader(
        lambda _, value: caching.read_change(value),
        [{"user_id": "u1", "balance": 1, "version": 2, "unlimited": False, "cause": CAUSE}],
        ANYWHERE | {"bad_event"},
    ),
    "limits_changed": Reader(
        limits.read_change,
        [{"policy": "maya.image", "limit": 5, "window_s": 60, "mode": "shadow", "max_in_flight": 2}],
        ANYWHERE | {"unknown_policy", "bad_change", "wrong_key"},
        b"maya.image",
    ),
}
HOSTILE: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, "", " ", "\0", "a\0b", "\ud800",
    "\u202e", "a" * 129, "é" * 200, "x" * 70_000, "../../etc", "'; DROP TABLE x; --", [], {}, [[]],
    {"": None}, [None] * 50,
]  # fmt: skip
SPLINTERS = [b"\0", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b'"', b"\\", b"{",
             b"[", b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"NaN", b"1e999", b"-", b",", b"null", b"//"]  # fmt: skip


def mutated(chance: random.Random, reader: Reader) -> tuple[bytes | None, bytes | None]:
    """A good record, spoiled in its fields, its bytes or its key; now and then left as it is."""
    body: Any = deepcopy(chance.choice(reader.good))
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        spoil_field(chance, body)
    value = json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    for _ in range(chance.choice((0, 0, 1, 3, 20))):
        value = spoil_bytes(chance, value)
    if chance.random() < 0.02:
        depth = chance.choice((50, 2000, 200_000))
        value = b'{"user_id":' + chance.choice((b"[", b'{"a":')) * depth
    key = chance.choice((reader.key, reader.key, reader.key, None, b"", b"u2", b"\xff", reader.key + b"\0"))
    return key, None if chance.random() < 0.01 else value


def spoil_field(chance: random.Random, body: Any) -> None:
    held = body
    while isinstance(held, dict | list) and held:
        place = chance.choice(list(held) if isinstance(held, dict) else range(len(held)))
        if isinstance(held[place], dict | list) and held[place] and chance.random() < 0.7:
            held = held[place]
            continue
        if isinstance(held, dict) and chance.random() < 0.3:
            del held[place]
        else:
            held[place] = deepcopy(chance.choice(HOSTILE))
        return


def spoil_bytes(chance: random.Random, value: bytes) -> bytes:
    start, end = sorted((chance.randint(0, len(value)), chance.randint(0, len(value))))
    match chance.randrange(5):
        case 0:
            return value[:start]
        case 1:
            return value[:start] + value[min(end, start + 8) :]
        case 2:
            return value[:start] + chance.choice(SPLINTERS) + value[start:]
        case 3:
            return value[:start] + value[start:end] * 2 + value[end:]
        case _:
            return value[:start] + bytes((chance.randrange(256),)) + value[start + 1 :]


def check(reader: Reader, key: bytes | None, value: bytes | None) -> str:
    """Hand in one record; what it was taken for."""
    read = reader.read(key, value)
    if not isinstance(read, Unreadable):
        return check_read(read, key)
    assert read.reason in reader.reasons, read
    assert read.error
    # What cannot be read is buried, found again as it was, and shown to a person.
    record = FakeRecord(value, key)
    topic, buried_key, buried, headers = dead_letter(record, read.reason, read.error)
    check_sizes([(topic, buried_key, buried, headers)])
    letter = read_letter(FakeRecord(buried, buried_key, headers=headers, topic=topic), "")
    assert (letter.reason, letter.key, letter.value) == (read.reason, key, value)
    assert safe_bytes(buried or b"").replace("\n", "").isprintable()
    return read.reason


def check_read(read: Any, key: bytes | None) -> str:
    if read is None:
        return "tombstone"
    for name in ("user_id", "request_id"):
        if hasattr(read, name) and not isinstance(read, caching.CreditsChanged):
            assert is_id(getattr(read, name)), read
    if isinstance(read, Request):
        assert key == read.user_id.encode()
        assert "\0" not in read.prompt
        read.prompt.encode()
    if isinstance(read, MalformedRequest):
        assert read.errors
        assert all(error.problem for error in read.errors)
        msgspec.json.encode(read.errors)
    return "malformed" if isinstance(read, MalformedRequest) else "good"


@pytest.mark.parametrize("name", READERS)
def test_no_payload_is_without_an_answer(name: str) -> None:
    seed = int(os.environ.get("BAD_INPUT_SEED") or random.randrange(1 << 30))
    print(f"BAD_INPUT_SEED={seed}")
    chance, reader = random.Random(f"{seed}/{name}"), READERS[name]
    found: Counter[str] = Counter()
    for _ in range(PAYLOADS):
        key, value = mutated(chance, reader)
        try:
            found[check(reader, key, value)] += 1
        except Exception as error:
            raise AssertionError(f"key {key!r}, value {(value or b'')[:2000]!r}: {error!r}") from error
    print(f"{name}: {PAYLOADS} payloads: {dict(found.most_common())}")
    # The mutations reach what they are meant to: good ones, and every common way of being wrong.
    assert found["good"] > 0
    assert found.keys() >= {"bad_json", "bad_utf8", "empty"} - ({"empty"} if name in TAKES_TOMBSTONES else set())


@pytest.mark.parametrize("field", ["key", "thumbnail_key", "content_type", "sha256", "width", "bytes"])
def test_what_no_row_can_hold_is_no_fact(field: str) -> None:
    for value in ("a\0b", 2**63):
        fact = {**IDS, "prediction_id": "p", "images": [PICTURE | {field: value}]}
        assert check(READERS["stored"], b"u1", json.dumps(fact).encode()) == "bad_fact"


TAKES_TOMBSTONES = {"credits_changed", "limits_changed"}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@pytest.mark.parametrize("name", READERS)
@given(document=DOCUMENTS, key=st.none() | st.binary(max_size=10))
def test_no_document_is_without_an_answer(name: str, document: Any, key: bytes | None) -> None:
    check(READERS[name], key, json.dumps(document).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", READERS)
@given(value=st.binary(max_size=200), key=st.binary(max_size=10))
def test_no_bytes_are_without_an_answer(name: str, value: bytes, key: bytes) -> None:
    check(READERS[name], key, value)


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(["dl_topic", "dl_partition", "dl_offset", "dl_reason", "dl_error", "dl_at", "dl_id", "x"])
            | st.text(max_size=5),
            st.none() | st.binary(max_size=20) | st.sampled_from([b"t", b"0", b"9" * 5000, b"t/0/0", b"2026-01-31"]),
        ),
        max_size=12,
    ),
    value=st.none() | st.binary(max_size=20),
)
def test_any_record_is_a_letter_or_foreign(headers: list[tuple[str, bytes]], value: bytes | None) -> None:
    letter = read_letter(FakeRecord(value, headers=headers, topic="dead-letters.v1"), "")
    assert letter.letter_id
    assert letter.value == value
