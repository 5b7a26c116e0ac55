"""What has been done with dead letters: the chains that redriving makes of them, and what may be done next. Pure.

A redriven record that fails again is buried from another place, as a new letter. It belongs to the same chain if a
redrive that we have written down was published at that place; or, where the end of that redrive is not known, if it
carries the redrive's id, which nobody can guess, and the same content. Nothing else that a record says about itself is
believed, so a producer can neither hide a loop nor lend its letters to somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from models.letters import FOREIGN, REDRIVE_HEADER, Letter
from models.outputs import OUTPUT_BYTES_MAX, Header
from models.topics import ADMITTED, CANCEL_REQUESTED, GRANTED, PREDICTIONS, REQUESTED, STORED

ATTEMPTS_MAX = 3
"""After so many redrives a letter that has come back every time needs a person, not another try."""
REDRIVABLE = (REQUESTED, GRANTED, CANCEL_REQUESTED, ADMITTED, PREDICTIONS, STORED)
"""Topics whose readers decide by what is in a record. A change of credits is not there: an old one, appended again to
the compacted topic, would take the place of the user's newest. The next change of the user mends the cache anyway."""


class Action(msgspec.Struct, frozen=True):
    """What somebody did with a letter: a row of dead_letter_actions.

    A redrive without `to_offset` was begun and its end is not known: it may or may not be published.
    """

    action_id: str
    letter_id: str
    root_id: str
    kind: str
    attempt: int
    reason: str
    content: str
    acted_by: str
    note: str
    at_ms: int
    to_topic: str | None = None
    to_partition: int | None = None
    to_offset: int | None = None

    @property
    def place(self) -> str | None:
        """Where the redriven record is; what the letter will be called if it comes back."""
        return None if self.to_offset is None else f"{self.to_topic}/{self.to_partition}/{self.to_offset}"


class Standing(NamedTuple):
    """How it is with a letter: `open`, `redriven` or `dropped`; redrives along its chain so far; what was done."""

    state: str
    root_id: str
    attempts: int
    actions: list[Action]
    is_unsettled: bool


@dataclass(slots=True)
class History:
    """What has been done with letters."""

    _chains: dict[str, list[Action]] = field(default_factory=dict)
    _by_letter: dict[str, str] = field(default_factory=dict)
    _by_place: dict[str, str] = field(default_factory=dict)
    _by_id: dict[str, Action] = field(default_factory=dict)
    _come_back: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, actions: Iterable[Action]) -> History:
        """The history that these actions, in their order, make."""
        history = cls()
        for action in actions:
            history._chains.setdefault(action.root_id, []).append(action)
            history._by_letter[action.letter_id] = action.root_id
            history._by_id[action.action_id] = action
            if action.place is not None:
                history._by_place[action.place] = action.root_id
        return history

    def origin(self, letter: Letter) -> Action | None:
        """The redrive of unknown end that this letter shows to have been published."""
        action = self._by_id.get(letter.redrive_id)
        if action is None or action.place is not None or action.content != letter.content or letter.reason == FOREIGN:
            return None
        # No letter carries the id of its own redrive; who says so is lying.
        return None if action.letter_id == letter.letter_id else action

    def notice(self, letter: Letter) -> None:
        """A letter has been seen: if it came back from a redrive of unknown end, that redrive was published."""
        action = self.origin(letter)
        if action is not None:
            self._come_back.add(action.action_id)

    def root_of(self, letter: Letter) -> str:
        """The first letter of the chain that this one belongs to; itself if it is none's."""
        known = self._by_letter.get(letter.letter_id) or self._by_place.get(letter.letter_id)
        if known is not None:
            return known
        action = self.origin(letter)
        return letter.letter_id if action is None else action.root_id

    def standing(self, letter: Letter) -> Standing:
        """How it is with this letter."""
        root_id = self.root_of(letter)
        chain = self._chains.get(root_id, [])
        own = [action for action in chain if action.letter_id == letter.letter_id]
        attempts = max((action.attempt for action in chain), default=0)
        redrives = [action for action in own if action.kind == "redriven"]
        is_published = any(action.place or action.action_id in self._come_back for action in redrives)
        state = "redriven" if is_published else "open"
        if any(action.kind == "dropped" for action in own):
            state = "dropped"
        return Standing(state, root_id, attempts, chain, bool(redrives) and not is_published)


def why_not_redriven(letter: Letter, standing: Standing, topic: str, *, force: bool) -> str | None:
    """Why this letter must not be redriven to `topic`, in a line for a person; None: it may be."""
    if letter.reason == FOREIGN:
        return "it was not written by Darkroom"
    if standing.state == "dropped":
        return "it was dropped"
    if letter.truncated_bytes:
        return f"only a part of it is kept (the whole had {letter.truncated_bytes} bytes): its producer must resend it"
    if topic not in REDRIVABLE:
        return f"{topic} takes no redriven records"
    if letter.key is None and letter.value is None:
        return "it has neither key nor value"
    headers_bytes = sum(len(name) + len(value or b"") + 8 for name, value in letter.original_headers)
    if len(letter.value or b"") + len(letter.key or b"") + headers_bytes > OUTPUT_BYTES_MAX:
        return f"it has more than {OUTPUT_BYTES_MAX} bytes, which its topic takes only compressed"
    if force:
        return None
    if standing.state == "redriven":
        return "it was redriven and has not come back as it is (--force redrives it again, harmlessly)"
    if standing.attempts >= ATTEMPTS_MAX:
        return f"it came back from each of {standing.attempts} redrives: find the cause first (--force tries again)"
    return None


def redriven_headers(letter: Letter, action: Action) -> list[Header]:
    """The original headers and one that says which redrive this is."""
    mark = f"{action.action_id} attempt={action.attempt} first={action.root_id}"
    return [*letter.original_headers, (REDRIVE_HEADER, mark.encode())]
