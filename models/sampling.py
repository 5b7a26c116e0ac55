"""Is the cache right? What a comparison of some entries with Postgres shows.

An entry that is behind may only be waiting for its event, so one look proves nothing. It is *stale* if a look that
began PROPAGATION_S after Postgres had shown a version finds it still before that version. So nothing is counted too
early; an entry that was stale and has caught up, or gone, between two looks is not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from models.caching import Balance, CreditReading

PROPAGATION_S = 2.0
"""How long an event may take from Postgres to the cache before the entry counts as stale."""


class Look(NamedTuple):
    """What one look at some entries showed.

    `compared` entries were held, `behind` of them before Postgres's version, and `stale` of those for PROPAGATION_S or
    longer; `stale_s` is for how long the worst is known to be (0 when none is). `wrong` entries are after Postgres's
    version, or differ at the same one, which no delay explains.
    """

    compared: int
    behind: int
    stale: int
    stale_s: float
    wrong: int


class _Suspect(NamedTuple):
    version: int
    seen_s: float


class Comparison:
    """Remembers from look to look which entries were behind what."""

    def __init__(self, propagation_s: float = PROPAGATION_S) -> None:
        self._propagation_s = propagation_s
        self._suspects: dict[str, _Suspect] = {}

    @property
    def suspects(self) -> list[str]:
        """The users to look at again."""
        return list(self._suspects)

    def look(
        self, held: Mapping[str, CreditReading | None], stored: Mapping[str, Balance], began_s: float, ended_s: float
    ) -> Look:
        """Compare what the cache held with what Postgres said after that.

        The cache was read after `began_s` and Postgres had answered by `ended_s`.
        """
        behind = stale = wrong = compared = 0
        stale_s = 0.0
        for user_id, entry in held.items():
            suspect = self._suspects.pop(user_id, None)
            if entry is None:
                continue
            compared += 1
            balance = stored.get(user_id, Balance(user_id, 0, 0, False))
            if entry.version >= balance.version:
                wrong += entry[:4] != balance
                continue
            behind += 1
            if suspect is None or entry.version >= suspect.version:
                suspect = _Suspect(balance.version, ended_s)
            self._suspects[user_id] = suspect
            if began_s - suspect.seen_s >= self._propagation_s:
                stale += 1
                stale_s = max(stale_s, began_s - suspect.seen_s)
        return Look(compared, behind, stale, stale_s, wrong)


class Ratio:
    """The share of stale entries over the last looks."""

    def __init__(self, looks: int = 60) -> None:
        self._looks: deque[Look] = deque(maxlen=looks)

    def add(self, look: Look) -> float:
        """The share with this look; 0 while nothing has been compared."""
        self._looks.append(look)
        compared = sum(one.compared for one in self._looks)
        return sum(one.stale for one in self._looks) / compared if compared else 0.0
