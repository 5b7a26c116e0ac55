"""Pages of a user's ledger, newest entry first. Pure.

A user's entries are numbered by the version that each made, without gaps, so a cursor is a version.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from models.errors import WrongUse

PAGE_DEFAULT = 50
PAGE_MAX = 200
VERSION_MAX = (1 << 63) - 1

_CURSOR = re.compile(r"v([1-9][0-9]{0,17})\Z", re.ASCII)


class Entry(msgspec.Struct, frozen=True):
    """One movement of credits; `balance_after` is the balance that it left."""

    entry_id: int
    amount: int
    kind: str
    reference_id: str
    balance_after: int
    version: int
    created_at: datetime


class LedgerPage(msgspec.Struct, frozen=True):
    """One page; `next_cursor` leads to the one after it, None if there is none."""

    entries: list[Entry]
    next_cursor: str | None


def cursor_of(version: int) -> str:
    """The cursor of what is older than this version."""
    return f"v{version}"


def version_of(cursor: str | None) -> int:
    """The version before which a page begins; without a cursor, after the newest. Raises WrongUse: none of ours."""
    if cursor is None:
        return VERSION_MAX
    match = _CURSOR.match(cursor)
    if match is None:
        raise WrongUse("cursor: is not one that this ledger gave")
    return int(match[1])
