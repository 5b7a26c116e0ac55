"""Sweeping: which folder comes next, and whether a sweep may have crossed what was being stored. Pure.

Objects are named by their content, so a request may store again what nobody had any more, just while it is swept.
Neither waits for the other. The sweeper writes down when a batch of deletions begins and ends; a keeper looks there
after it has stored and before it says so. A batch that begins later finds the objects new, and leaves them alone; for
one that the keeper sees, it makes sure that its objects are still there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from models.pictures import FOLDERS

GRACE_S = 24 * 3600.0
GRACE_MIN_S = 2 * 3600
"""More than any request may take, from the first object stored to its row."""
CLOCK_SKEW_MAX_S = 15 * 60.0
"""How far the store's clock may be from the database's."""
FLIGHT_S = 120.0
"""How long a deletion may still arrive whose sender has died: more than any call to the store may take."""

_SPLITS = [f"{name}/{number:02x}" for name in FOLDERS for number in range(256)]
FOLDER_COUNT = len(_SPLITS)


def folder_at(position: int) -> str:
    """One of FOLDER_COUNT folders, in turn."""
    return _SPLITS[position % FOLDER_COUNT]


def folder_of(key: str) -> str:
    """The folder that an object is in."""
    return key.rpartition("/")[0]


class Crossing(Enum):
    """What a sweep may have done to objects that were just stored."""

    NONE = "none"
    """Nothing."""
    LOOK = "look"
    """It may have deleted them, and is over: see whether they are there."""
    WAIT = "wait"
    """It may still delete them."""


@dataclass(frozen=True, slots=True)
class SweepMark:
    """The last batch of deletions and the position of its folder, in seconds since the epoch by the database's clock.

    `is_alive` says whether whoever began it is still connected; `now_s` is when this was read.
    """

    position: int
    began_at_s: float | None
    ended_at_s: float | None
    is_alive: bool
    now_s: float

    def crossing(self, keys: Iterable[str], since_s: float, flight_s: float = FLIGHT_S) -> Crossing:
        """What it means for objects that have been stored since then."""
        began_s, ended_s = self.began_at_s, self.ended_at_s
        is_open = began_s is not None and (ended_s is None or ended_s < began_s)
        if is_open and folder_at(self.position) in map(folder_of, keys):
            assert began_s is not None
            if self.is_alive or self.now_s < began_s + flight_s:
                return Crossing.WAIT
            ended_s = began_s + flight_s
        return Crossing.LOOK if ended_s is not None and ended_s >= since_s else Crossing.NONE
