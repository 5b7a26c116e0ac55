"""What the credit cache decides: which events move it, what a reader may use, when a server counts as away.

The rule that everything here serves: what the cache shows of a user never goes back to an earlier version. An entry
moves forward by version; a missing one begins only with a balance that was read from Postgres after it was missing,
with nothing written in between (the lease, adapters/credit_cache.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

import msgspec

from models.accounts import CreditsChanged
from models.outputs import Output, Record, dead_letter
from models.requests import Unreadable, read_object

TTL_MS = 30_000
TTL_JITTER_MS = 3_000
"""Entries that were filled together should not expire together."""
RENEW_AGE_S = 20.0
"""A reader who gets an older balance has it renewed, so that what is read often never expires."""
LATE_MS = 5_000
"""An event that is older when it comes drops what it would have changed: more events are surely on their way.

With clocks that far apart, everything is dropped and filled again: slower, and still right."""

_decoder = msgspec.json.Decoder(CreditsChanged)


class Balance(NamedTuple):
    """An account as Postgres or an event says it is. A user without an account has version 0."""

    user_id: str
    balance: int
    version: int
    unlimited: bool


class CreditReading(NamedTuple):
    """What a reader is told of a user's credits.

    `age_s` is how long ago, in seconds, Postgres or an event said so; `from_cache` is False if Postgres was asked.
    Never authorise spending with it.
    """

    user_id: str
    balance: int
    version: int
    unlimited: bool
    age_s: float
    from_cache: bool


class Move(NamedTuple):
    """A balance that an event brings; `late` if it took too long to be trusted as the newest."""

    balance: Balance
    late: bool


def read_change(value: bytes | None) -> CreditsChanged | Unreadable | None:
    """Read one record of credits.changed.v1; None for a tombstone. Never raises."""
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        body = read_object(value)
        return body if isinstance(body, Unreadable) else Unreadable("bad_event", str(error))


def digest(records: Sequence[Record], now_ms: int) -> tuple[list[Move], list[Output]]:
    """The latest change of each user in the batch, and dead letters for what cannot be read."""
    latest: dict[str, Move] = {}
    letters: list[Output] = []
    for record in records:
        change = read_change(record.value)
        if isinstance(change, Unreadable):
            letters.append(dead_letter(record, change.reason, change.error))
        elif change is not None:
            held = latest.get(change.user_id)
            if held is None or held.balance.version < change.version:
                balance = Balance(change.user_id, change.balance, change.version, change.unlimited)
                latest[change.user_id] = Move(balance, now_ms - record.timestamp > LATE_MS)
    return list(latest.values()), letters


def ttl_ms(chance: float) -> int:
    """How long an entry lives, for a chance in [0, 1)."""
    return TTL_MS + int(TTL_JITTER_MS * chance)


def is_usable(held: CreditReading | None, floor: int) -> TypeGuard[CreditReading]:
    """Whether a reader who must not see less than version `floor` may have what the cache holds."""
    return held is not None and held.version >= floor


def is_due(held: CreditReading) -> bool:
    """Whether Postgres should be asked again while readers may still have this."""
    return held.age_s > RENEW_AGE_S


def newest(stored: CreditReading, held: CreditReading) -> CreditReading:
    """Of a balance from Postgres and what the cache holds by now, the one that a reader gets."""
    return held if held.version > stored.version else stored


class Floors:
    """Versions that readers were shown from Postgres and that the cache may not hold yet, so as not to show less.

    Each is kept for `keep_s` to twice that; with more than `users_max` users the earliest are forgotten sooner.
    """

    def __init__(self, keep_s: float, users_max: int) -> None:
        self._keep_s = keep_s
        self._users_max = users_max
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._turned_s = float("-inf")

    def __bool__(self) -> bool:
        return bool(self._young or self._old)

    def lift(self, user_id: str, version: int, now_s: float) -> None:
        """Remember that a reader has seen this version."""
        self._turn(now_s)
        self._young[user_id] = max(version, self.of(user_id, now_s))

    def of(self, user_id: str, now_s: float) -> int:
        """The least version that this user's readers may be shown; 0 when any will do."""
        self._turn(now_s)
        return max(self._young.get(user_id, 0), self._old.get(user_id, 0))

    def _turn(self, now_s: float) -> None:
        if now_s - self._turned_s > self._keep_s * 2:
            self._young.clear()
        if now_s - self._turned_s > self._keep_s or len(self._young) > self._users_max // 2:
            self._old, self._young = self._young, {}
            self._turned_s = now_s


class Breaker:
    """Whether a server is worth asking. It opens at the first failure; while open, a probe is due now and then."""

    def __init__(self, probe_every_s: float) -> None:
        self._probe_every_s = probe_every_s
        self._probe_at_s: float | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the server may be asked."""
        return self._probe_at_s is None

    def fail(self, now_s: float) -> None:
        """The server did not answer."""
        self._probe_at_s = now_s + self._probe_every_s

    def succeed(self) -> None:
        """The server has answered a probe."""
        self._probe_at_s = None

    def takes_probe(self, now_s: float) -> bool:
        """Whether a probe is due; whoever gets True makes it."""
        if self._probe_at_s is None or now_s < self._probe_at_s:
            return False
        self._probe_at_s = now_s + self._probe_every_s
        return True
