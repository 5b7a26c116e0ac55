"""Server-sent events are read the same however their bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import Unavailable
from models.sse import LINE_BYTES_MAX, ServerEvent, SseReader

STREAM = (
    ": a comment\nretry: 1000\n\n"
    'id: 1\nevent: generations.completed.v1\ndata: {"a": "\u2028é"}\n\n'
    "data: two\r\ndata:lines\r\n\r\n"
    "id: 3\rdata\r\rid: ignored\0\nevent: nothing to send\n\ndata: last\n\ndata: unfinished"
).encode()
EVENTS = [
    ServerEvent("1", "generations.completed.v1", '{"a": "\u2028é"}'),
    ServerEvent("1", "message", "two\nlines"),
    ServerEvent("3", "message", ""),
    ServerEvent("3", "message", "last"),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_wherever_the_bytes_are_cut_the_events_are_the_same(cuts: list[int]) -> None:
    reader = SseReader()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [event for start, end in pairwise(places) for event in reader.feed(STREAM[start:end])]
    assert found == EVENTS


def test_what_is_no_event_stream_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        SseReader().feed(b"data: \xff\n\n")
    with pytest.raises(Unavailable):
        SseReader().feed(b"x" * (LINE_BYTES_MAX + 1))
