"""Auditing dead letters: what is on their topic against how far the streams are, and against what was done."""

from __future__ import annotations

from adapters.event_rows import EventRows
from models.audit import Findings
from models.letter_history import REDRIVABLE
from models.letters import FOREIGN
from models.topics import DEAD_LETTERS, TOPICS
from streams.letters import all_letters
from streams.reading import Reader
from streams.settings import Settings

Place = tuple[str, int]

STREAMS = {topic: next(name for name in TOPICS[topic].readers if name != "dashboards") for topic in REDRIVABLE}
"""The stream that reads each topic; it is called as its agent is."""


async def count_letters(findings: Findings, rows: EventRows, settings: Settings) -> None:
    """Add the violations of the two invariants about letters. Raises Unavailable; SetupFailed when topics are missing.

    A step buries a record after the commit of its progress, so the letters are read before the progress is. Places
    above a topic's end are of a topic that was made anew since.
    """
    missing = await rows.letters_acted_on()
    latest: dict[Place, int] = {}
    async for letter in all_letters(settings):
        missing.discard(letter.letter_id)
        if letter.reason != FOREIGN and letter.topic in STREAMS:
            _, partition, offset = letter.letter_id.rsplit("/", 2)
            place = letter.topic, int(partition)
            latest[place] = max(int(offset), latest.get(place, 0))
    async with Reader(settings, list(STREAMS)) as reader:
        await reader.start_at_end()
        ends = {(tp.topic.removeprefix(settings.topic_prefix), tp.partition): end
                for tp, end in (await reader.end_offsets()).items()}  # fmt: skip
    positions = await rows.positions()
    for (topic, number), last in latest.items():
        next_offset = positions.get((STREAMS[topic], number))
        if next_offset is not None and next_offset <= last < ends.get((topic, number), 0):
            findings.add("letters_are_of_handled_records", 1, f"{topic}/{number}/{last}")
    # Letters are kept for long and not for ever: once some are gone, nobody can say which should be there.
    if missing and await _is_whole(settings):
        for letter_id in missing:
            findings.add("actions_have_their_letter", 1, letter_id)


async def _is_whole(settings: Settings) -> bool:
    async with Reader(settings, [DEAD_LETTERS]) as reader:
        return not any((await reader.start_at_beginning()).values())
