"""Acting on dead letters: redriving and dropping.

Redriving writes down its intent, publishes the original record, and writes down where it went. A crash in between
leaves a letter that is still open; redriving it again is harmless, because the ids are in the record's content and
every step answers a repeated id as it did before. Dropping is only written down.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Collection
from typing import NamedTuple

import msgspec

from adapters.letters import LetterActions
from models.errors import WrongUse
from models.letter_history import Action, History, Standing, redriven_headers, why_not_redriven
from models.letters import Letter
from streams.crash_points import crash_point
from streams.letters import chosen_letters
from streams.publisher import Publisher
from streams.settings import Settings

NOTE_CHARACTERS_MAX = 1000
BY_CHARACTERS_MAX = 200


class Outcome(NamedTuple):
    """What became of one letter: `problem` says why nothing was done, `action` what was written down."""

    letter_id: str
    problem: str | None
    action: Action | None = None


async def redrive_letters(
    settings: Settings,
    letter_ids: Collection[str],
    *,
    by: str,
    note: str = "",
    to_topic: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> AsyncIterator[Outcome]:
    """Publish these letters' original records again, one outcome for each as it is done, in the order of the topic.

    Raises Unavailable: the letter in hand may or may not be published, and redriving it again is safe; WrongUse.
    """
    _check_names(by, note)
    publisher = Publisher(settings.require("kafka"), client_id="darkroom-letters", topic_prefix=settings.topic_prefix)
    try:
        async with LetterActions.opened(settings.require("postgres")) as actions:
            async for letter in chosen_letters(settings, letter_ids):
                topic = to_topic or letter.topic
                async with actions.deciding(letter) as history:
                    standing = history.standing(letter)
                    problem = why_not_redriven(letter, standing, topic, force=force)
                    if problem is not None or dry_run:
                        action = None
                    else:
                        action = _action(letter, standing, "redriven", by, note)
                        await _begin(actions, history, letter, action)
                if action is None:
                    yield Outcome(letter.letter_id, problem)
                    continue
                crash_point("redrive", 1)  # written down, not published: the letter is open, and redriven once more
                headers = redriven_headers(letter, action)
                partition, offset, _ = await publisher.send(topic, letter.key, letter.value, headers)
                crash_point("redrive", 2)  # published, nobody knows: the same, and the second copy changes nothing
                name = settings.topic_prefix + topic
                await actions.settle(action.action_id, name, partition, offset)
                settled = msgspec.structs.replace(action, to_topic=name, to_partition=partition, to_offset=offset)
                yield Outcome(letter.letter_id, None, settled)
    finally:
        await publisher.close()


async def drop_letters(
    settings: Settings, letter_ids: Collection[str], *, by: str, note: str
) -> AsyncIterator[Outcome]:
    """Write down that nothing more will be done with these letters; they stay on their topic.

    Raises Unavailable; WrongUse: a note is missing or too long.
    """
    _check_names(by, note)
    if not note.strip():
        raise WrongUse("say why with --note")
    async with LetterActions.opened(settings.require("postgres")) as actions:
        async for letter in chosen_letters(settings, letter_ids):
            async with actions.deciding(letter) as history:
                standing = history.standing(letter)
                if standing.state == "dropped":
                    action = None
                else:
                    action = _action(letter, standing, "dropped", by, note)
                    await _begin(actions, history, letter, action)
            yield Outcome(letter.letter_id, "it was dropped before" if action is None else None, action)


async def _begin(actions: LetterActions, history: History, letter: Letter, action: Action) -> None:
    """Write the action down; and, if the letter shows where a redrive of unknown end went, that too."""
    origin = history.origin(letter)
    if origin is not None and origin.place is None:
        topic, partition, offset = letter.letter_id.rsplit("/", 2)
        await actions.settle(origin.action_id, topic, int(partition), int(offset))
    await actions.add(action)


def _action(letter: Letter, standing: Standing, kind: str, by: str, note: str) -> Action:
    return Action(
        action_id=f"{kind}-{uuid.uuid4().hex}",
        letter_id=letter.letter_id,
        root_id=standing.root_id,
        kind=kind,
        attempt=standing.attempts + (kind == "redriven"),
        reason=letter.reason,
        content=letter.content,
        acted_by=by,
        note=note,
        at_ms=int(time.time() * 1000),
    )


def _check_names(by: str, note: str) -> None:
    for what, text, characters_max in (("note", note, NOTE_CHARACTERS_MAX), ("name", by, BY_CHARACTERS_MAX)):
        # Lone surrogates are how a shell's bytes arrive that are no text.
        if len(text) > characters_max or "\0" in text or text != text.encode(errors="ignore").decode():
            raise WrongUse(f"a {what} is text of at most {characters_max} characters")
    if not by:
        raise WrongUse("say who acts")
