"""What the cache learns from a batch of balance changes: per user, the latest version only."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from models.accounts import CreditsChanged
from models.outputs import Output, Record, dead_letter
from models.requests import Unreadable, read_object

_decoder = msgspec.json.Decoder(CreditsChanged)


def read_change(value: bytes | None) -> CreditsChanged | Unreadable | None:
    """Read one record of credits.changed.v1; None for a tombstone. Never raises."""
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        body = read_object(value)
        return body if isinstance(body, Unreadable) else Unreadable("bad_event", str(error))


def digest(records: Sequence[Record]) -> tuple[list[CreditsChanged], list[Output]]:
    """The latest change of each user in the batch, and dead letters for what cannot be read."""
    latest: dict[str, CreditsChanged] = {}
    letters: list[Output] = []
    for record in records:
        change = read_change(record.value)
        if isinstance(change, Unreadable):
            letters.append(dead_letter(record, change.reason, change.error))
        elif change is not None:
            held = latest.get(change.user_id)
            if held is None or held.version < change.version:
                latest[change.user_id] = change
    return list(latest.values()), letters
