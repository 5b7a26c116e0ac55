"""Dead letters as plain data: what is read back, which chain a letter belongs to, what may be done with it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import WrongUse
from models.letter_history import ATTEMPTS_MAX, Action, History, redriven_headers, why_not_redriven
from models.letters import FOREIGN, Letter, read_letter, read_moment_ms
from models.outputs import HEADERS_BYTES_MAX, dead_letter
from models.safe_text import hex_dump, safe_bytes, safe_text
from models.topics import CREDITS, REQUESTED
from tests.unit.records import FakeRecord

TRACE = ("traceparent", b"00-1-2-01")


def letter_of(record: FakeRecord, reason: str = "bad_utf8") -> Letter:
    _, key, value, headers = dead_letter(record, reason, "no")
    return read_letter(FakeRecord(value, key, topic="dead-letters.v1", headers=headers), "")


def redriven(letter: Letter, attempt: int = 1, root_id: str | None = None, offset: int | None = None) -> Action:
    action = Action(
        action_id=f"redriven-{attempt}",
        letter_id=letter.letter_id,
        root_id=root_id or letter.letter_id,
        kind="redriven",
        attempt=attempt,
        reason=letter.reason,
        content=letter.content,
        acted_by="me",
        note="",
        at_ms=0,
    )
    if offset is None:
        return action
    return msgspec.structs.replace(action, to_topic=letter.topic, to_partition=0, to_offset=offset)


def test_a_letter_is_read_back_as_it_was_buried() -> None:
    record = FakeRecord(b"\xff", b"u", offset=7, partition=3, headers=[TRACE, ("dl_reason", b"a lie")])
    letter = letter_of(record)
    assert (letter.letter_id, letter.topic, letter.reason) == (f"{REQUESTED}/3/7", REQUESTED, "bad_utf8")
    assert (letter.key, letter.value, letter.at_ms) == (b"u", b"\xff", record.timestamp)
    assert letter.original_headers == [TRACE]


def test_the_mark_of_a_redrive_survives_burying_and_a_new_one_takes_its_place() -> None:
    first = letter_of(FakeRecord(b"x", offset=1, headers=[TRACE]))
    headers = redriven_headers(first, redriven(first))
    again = letter_of(FakeRecord(b"x", offset=2, headers=headers))
    assert again.redrive_id == "redriven-1"
    headers = redriven_headers(again, redriven(again, 2, first.letter_id))
    assert headers == [TRACE, ("dl_redrive", f"redriven-2 attempt=2 first={first.letter_id}".encode())]


def test_a_chain_is_known_by_its_places_also_when_its_headers_were_too_many_to_keep() -> None:
    first = letter_of(FakeRecord(b"x", offset=1))
    history = History.of([redriven(first, offset=2)])
    again = letter_of(FakeRecord(b"x", offset=2, headers=[("x", b"y" * HEADERS_BYTES_MAX)]))
    assert again.redrive_id == ""
    assert history.standing(again)[:3] == ("open", first.letter_id, 1)
    assert history.standing(first).state == "redriven"


def test_a_redrive_of_unknown_end_is_open_until_its_letter_is_seen_again() -> None:
    first = letter_of(FakeRecord(b"x", offset=1))
    action = redriven(first)
    history = History.of([action])
    assert history.standing(first)[:3] == ("open", first.letter_id, 1)
    assert history.standing(first).is_unsettled
    again = letter_of(FakeRecord(b"x", offset=2, headers=redriven_headers(first, action)))
    history.notice(again)
    assert history.standing(first).state == "redriven"
    assert history.standing(again)[:3] == ("open", first.letter_id, 1)


@given(
    value=st.binary(max_size=5),
    mark=st.sampled_from([b"redriven-1", b"redriven-1 attempt=9 first=x", b"", b"redriven-2"]) | st.binary(max_size=20),
    offset=st.none() | st.integers(100, 110),
)
def test_no_header_joins_a_chain_of_other_content(value: bytes, mark: bytes, offset: int | None) -> None:
    first = letter_of(FakeRecord(b"the content", offset=1))
    history = History.of([redriven(first, offset=offset)])
    liar = letter_of(FakeRecord(value, offset=2, headers=[("dl_redrive", mark)]))
    history.notice(liar)
    assert history.standing(liar)[:3] == ("open", liar.letter_id, 0)
    assert history.standing(first).state == ("open" if offset is None else "redriven")


def test_a_loop_needs_force_and_what_cannot_go_is_refused_with_it_too() -> None:
    letter = letter_of(FakeRecord(b"x", offset=ATTEMPTS_MAX))
    root_id = f"{REQUESTED}/0/0"
    links = [redriven(letter_of(FakeRecord(b"x", offset=n)), n + 1, root_id, n + 1) for n in range(ATTEMPTS_MAX)]
    standing = History.of(links).standing(letter)
    assert standing.attempts == ATTEMPTS_MAX
    assert "came back from each of 3" in (why_not_redriven(letter, standing, REQUESTED, force=False) or "")
    assert why_not_redriven(letter, standing, REQUESTED, force=True) is None
    assert why_not_redriven(letter, History.of(links[:-1]).standing(letter), REQUESTED, force=False) is None
    assert why_not_redriven(letter, standing, CREDITS, force=True) == f"{CREDITS} takes no redriven records"


@pytest.mark.parametrize(
    ("name", "value"),
    [("dl_id", b"elsewhere/0/1"), ("dl_topic", b"a\x00b"), ("dl_topic", b"\x1b[2J"), ("dl_partition", b"-1"),
     ("dl_offset", b"x"), ("dl_reason", b"Bad\x1b"), ("dl_at", b"yesterday"), ("dl_truncated", b"x")],
)  # fmt: skip
def test_a_letter_with_one_word_that_is_not_ours_is_foreign(name: str, value: bytes) -> None:
    _, key, body, headers = dead_letter(FakeRecord(b"x"), "bad_json", "no")
    forged = [(*header,) for header in headers if header[0] != name] + [(name, value)]
    letter = read_letter(FakeRecord(body, key, topic="dead-letters.v1", headers=forged), "")
    assert (letter.reason, letter.letter_id) == (FOREIGN, "dead-letters.v1/0/0")
    assert (
        why_not_redriven(letter, History().standing(letter), REQUESTED, force=True) == "it was not written by Darkroom"
    )


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [("90s", 999_910_000), ("1.5h", 994_600_000), ("7d", 395_200_000), ("1970-01-01T00:00:01Z", 1000),
     ("1970-01-01T01:00:01+01:00", 1000), ("1970-01-02", 86_400_000)],
)  # fmt: skip
def test_a_moment_is_a_time_or_how_long_ago(text: str, at_ms: int) -> None:
    assert read_moment_ms(text, 1_000_000_000) == at_ms


@pytest.mark.parametrize("text", ["", "yesterday", "5", "-5m", "٥m", "5y", "9999999d", "2026-13-01"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(WrongUse, match="is no moment"):
        read_moment_ms(text, 0)


@given(st.binary(max_size=300))
def test_no_bytes_act_on_a_terminal(data: bytes) -> None:
    for shown in (safe_bytes(data), hex_dump(data), safe_text(data.decode(errors="replace"))):
        assert all(line.isprintable() for line in shown.split("\n"))


@given(st.text(max_size=200))
def test_escaped_text_can_be_read_back(text: str) -> None:
    """Nothing is hidden: two unlike texts never look alike."""
    shown = safe_text(text)
    ascii_only = "".join(c if c.isascii() else c.encode("unicode_escape").decode() for c in shown)
    assert ascii_only.encode().decode("unicode_escape").encode("utf-16", "surrogatepass").decode("utf-16") == text


def test_what_is_shown_is_bounded() -> None:
    assert safe_text("x" * 50, 10) == "xxxxxxxxxx… (40 more characters)"
    assert hex_dump(b"\0" * 40, 16).splitlines()[1] == "… (24 more bytes)"
