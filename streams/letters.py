"""Dead letters for a person or a route: listing them, looking at one.

The topic is append-only; what was done with a letter is in dead_letter_actions, and both together say how it stands.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from adapters.letters import LetterActions
from models.errors import Unavailable
from models.letter_history import History, Standing
from models.letters import Letter, LetterFilter, read_letter
from models.topics import DEAD_LETTERS
from streams.reading import Reader
from streams.settings import Settings

SCAN_TIMEOUT_S = 120.0


class Listed(NamedTuple):
    """A letter and how it stands. In a listing the value and the headers are left out; `value_bytes` is its size."""

    letter: Letter
    standing: Standing
    value_bytes: int


@dataclass(slots=True)
class Listing:
    """What a filter found. `by_reason` counts all that fit, also those over the limit.

    `differing` are ids under which two unlike letters were found: the topic that they came from was made anew.
    """

    letters: list[Listed] = field(default_factory=list)
    by_reason: Counter[str] = field(default_factory=Counter)
    differing: set[str] = field(default_factory=set)


async def list_letters(
    settings: Settings, wanted: LetterFilter, *, limit: int | None = 100, oldest_first: bool = False
) -> Listing:
    """The letters that fit, at most `limit` of them. Raises Unavailable; SetupFailed when the topic is missing."""
    history = await _history(settings)
    listing = Listing()
    seen: dict[str, str] = {}
    found: list[tuple[Letter, int]] = []
    async for letter in all_letters(settings, wanted.read_from_ms):
        history.notice(letter)
        mark = f"{letter.at_ms} {letter.content}"
        known = seen.setdefault(letter.letter_id, mark)
        if known is not mark:
            if known != mark:
                listing.differing.add(letter.letter_id)
        elif wanted.takes(letter):
            found.append((replace(letter, value=None, headers=()), len(letter.value or b"")))
    # Only now, because a letter that came back says of an earlier one that its redrive was published.
    for letter, value_bytes in found:
        standing = history.standing(letter)
        if wanted.with_closed or standing.state == "open":
            listing.by_reason[letter.reason] += 1
            listing.letters.append(Listed(letter, standing, value_bytes))
    listing.letters.sort(key=lambda row: (row.letter.at_ms, row.letter.letter_id), reverse=not oldest_first)
    if limit is not None:
        del listing.letters[limit:]
    return listing


async def find_letter(settings: Settings, letter_id: str) -> Listed | None:
    """One letter with its value, None if there is none. Raises Unavailable; SetupFailed when the topic is missing."""
    history = await _history(settings)
    found: Letter | None = None
    async for letter in all_letters(settings):
        history.notice(letter)
        if letter.letter_id == letter_id and found is None:
            found = letter
    return None if found is None else Listed(found, history.standing(found), len(found.value or b""))


async def chosen_letters(settings: Settings, letter_ids: Collection[str]) -> AsyncIterator[Letter]:
    """The letters of these ids, each once, with values; those that are not there are left out."""
    left = set(letter_ids)
    if left:
        async for letter in all_letters(settings):
            if letter.letter_id in left:
                left.remove(letter.letter_id)
                yield letter
            if not left:
                return


async def all_letters(settings: Settings, from_ms: int | None = None) -> AsyncIterator[Letter]:
    """Everything on the topic up to its end as it is now, from a moment of broker time on; copies too.

    Raises Unavailable; SetupFailed when the topic is missing.
    """
    async with Reader(settings, [DEAD_LETTERS]) as reader:
        if from_ms is None:
            await reader.start_at_beginning()
        else:
            await reader.start_at_time(from_ms)
        ends = await reader.end_offsets()
        waited_s = 0.0
        while await reader.behind(ends):
            began = time.monotonic()
            records = await reader.read(0.5)
            # What is done with a letter meanwhile does not count.
            waited_s += time.monotonic() - began
            if waited_s > SCAN_TIMEOUT_S:
                raise Unavailable("the topic of dead letters", f"it was not read within {SCAN_TIMEOUT_S:g} s")
            for _, record in records:
                yield read_letter(record, settings.topic_prefix)


async def _history(settings: Settings) -> History:
    async with LetterActions.opened(settings.require("postgres")) as actions:
        return await actions.history()
