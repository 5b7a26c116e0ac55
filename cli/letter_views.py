"""How dead letters look, to a person and to a program. Foreign bytes reach a terminal only in escaped form."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from models.letter_history import Action
from models.outputs import rfc3339
from models.safe_text import safe_bytes, safe_text
from streams.letters import Listed, Listing
from streams.redrive import Outcome

VALUE_BYTES_MAX = 1 << 20
"""What `show --json` gives of a value."""
LINE_CHARACTERS_MAX = 300
HEADERS_MAX = 50


def listing_lines(listing: Listing) -> Iterator[str]:
    """A line for each letter, then the counts."""
    for letter, standing, _ in listing.letters:
        marks = "" if standing.state == "open" else f"  [{standing.state}]"
        marks += f"  [came back {standing.attempts}×]" if standing.attempts and standing.state == "open" else ""
        marks += "  [a redrive was begun, its end is not known]" if standing.is_unsettled else ""
        yield f"{rfc3339(letter.at_ms)}  {_line(letter.letter_id)}  {_line(letter.reason)}{marks}"
        yield f"    {_line(letter.error)}"
    total = sum(listing.by_reason.values())
    counts = ", ".join(f"{_line(reason)} {count}" for reason, count in listing.by_reason.most_common())
    hidden = f" ({len(listing.letters)} shown)" if len(listing.letters) < total else ""
    yield f"{total} letters{hidden}: {counts}" if total else "no letters"
    for letter_id in sorted(listing.differing)[:10]:
        yield f"two unlike letters are called {_line(letter_id)}: its topic was made anew; only the older is shown"


def listing_document(listing: Listing) -> dict[str, Any]:
    """What `list --json` prints."""
    return {
        "letters": [_summary(row) for row in listing.letters],
        "by_reason": dict(listing.by_reason),
        "total": sum(listing.by_reason.values()),
        "differing": sorted(listing.differing),
    }


def letter_lines(found: Listed) -> Iterator[str]:
    """All of one letter that fits a screen."""
    letter, standing, value_bytes = found
    yield f"letter    {_line(letter.letter_id)}"
    yield f"state     {standing.state}, redriven {standing.attempts}×, first letter {_line(standing.root_id)}"
    yield f"reason    {_line(letter.reason)}: {safe_text(letter.error, 1000)}"
    yield f"time      {rfc3339(letter.at_ms)}"
    yield f"buried    at {letter.buried_partition}@{letter.buried_offset} of the dead letters"
    yield f"key       {'none' if letter.key is None else safe_bytes(letter.key, 256)}"
    for name, value in letter.headers[:HEADERS_MAX]:
        yield f"header    {_line(name)} = {safe_text((value or b'').decode(errors='backslashreplace'), 1000)}"
    if len(letter.headers) > HEADERS_MAX:
        yield f"          … ({len(letter.headers) - HEADERS_MAX} more headers)"
    for action in standing.actions:
        yield f"history   {_action_line(action)}"
    if standing.is_unsettled:
        yield "          a redrive was begun and its end is not known: redriving once more is harmless"
    yield "value     none" if letter.value is None else f"value     {value_bytes} bytes:"
    if letter.value is not None:
        yield safe_bytes(letter.value)


def letter_document(found: Listed) -> dict[str, Any]:
    """What `show --json` prints; bytes in base64, because they need not be text."""
    letter, standing, _ = found
    return {
        **_summary(found),
        "buried": {"partition": letter.buried_partition, "offset": letter.buried_offset},
        "headers": [{"name": name, "value_base64": _base64(value or b"")} for name, value in letter.headers],
        "key_base64": None if letter.key is None else _base64(letter.key),
        "value_base64": None if letter.value is None else _base64(letter.value[:VALUE_BYTES_MAX]),
        "history": [action_document(action) for action in standing.actions],
    }


def action_document(action: Action) -> dict[str, Any]:
    """An action for a program to read."""
    document: dict[str, Any] = msgspec.to_builtins(action)
    return document | {"at": rfc3339(action.at_ms)}


def outcome_line(outcome: Outcome, done: str) -> str:
    """What became of one letter."""
    if outcome.problem is not None:
        return f"{_line(outcome.letter_id)}: left alone: {outcome.problem}"
    where = f" to {outcome.action.place}" if outcome.action is not None and outcome.action.place else ""
    return f"{_line(outcome.letter_id)}: {done}{where}"


def outcome_document(outcome: Outcome, done: str) -> dict[str, Any]:
    """The same for a program."""
    return {
        "letter_id": outcome.letter_id,
        "outcome": done if outcome.problem is None else "left_alone",
        "problem": outcome.problem,
        "action": None if outcome.action is None else action_document(outcome.action),
    }


def _summary(row: Listed) -> dict[str, Any]:
    letter, standing, value_bytes = row
    return {
        "letter_id": letter.letter_id,
        "topic": letter.topic,
        "reason": letter.reason,
        "error": letter.error,
        "at": rfc3339(letter.at_ms),
        "state": standing.state,
        "attempts": standing.attempts,
        "root_id": standing.root_id,
        "is_unsettled": standing.is_unsettled,
        "value_bytes": value_bytes,
        "truncated_bytes": letter.truncated_bytes,
    }


def _action_line(action: Action) -> str:
    says = f"{rfc3339(action.at_ms)}  {action.kind} by {_line(action.acted_by)}"
    if action.kind == "redriven":
        says += f", attempt {action.attempt}, to {_line(action.place or 'nobody knows where')}"
    if action.letter_id != action.root_id:
        says += f", as {_line(action.letter_id)}"
    return f"{says}: {_line(action.note)}" if action.note else says


def _line(text: str) -> str:
    return safe_text(text, LINE_CHARACTERS_MAX)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
