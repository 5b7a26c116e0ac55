"""Where somebody is in the events that dashboards follow, and the text that says so. Pure.

The events are in several topics of as many partitions, each with its own offsets, so a place in all of them is a list
of offsets. It says the same to every process that reads the topics: a stream that broke off goes on anywhere. A user
lives in one partition, so a place in one user's events is short.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated

import msgspec

from models.errors import WrongUse
from models.topics import ADMITTED, COMPLETED, FAILED, REJECTED

FOLLOWED = (ADMITTED, REJECTED, COMPLETED, FAILED)
"""What becomes of requests, in the order of a place's lists."""
TEXT_CHARACTERS_MAX = 60_000

Offsets = Mapping[tuple[str, int], int]
"""(topic, partition) to the offset of the next event there."""

_Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Partition = Annotated[int, msgspec.Meta(ge=0, lt=1 << 20)]


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """`partition` is the only one, None when all are there; `offsets` has a list for each topic."""

    partition: _Partition | None
    offsets: tuple[tuple[_Offset, ...], ...]


def text_of(offsets: Offsets, partitions: int, partition: int | None = None) -> str:
    """The text of a place in all partitions, or in one. What is in it is nobody's business and may change."""
    chosen = range(partitions) if partition is None else (partition,)
    place = _Place(partition, tuple(tuple(offsets[topic, number] for number in chosen) for topic in FOLLOWED))
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def offsets_in(text: str, partitions: int, partition: int | None = None) -> dict[tuple[str, int], int]:
    """The offsets behind a text, of one partition or of all.

    Raises WrongUse: it is none of ours, or is about less than what is asked for.
    """
    try:
        if len(text) > TEXT_CHARACTERS_MAX:
            raise ValueError("too long")
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place = msgspec.msgpack.decode(data, type=_Place)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise WrongUse("position: is not one that came with an event") from error
    covered = range(partitions) if place.partition is None else (place.partition,)
    if len(place.offsets) != len(FOLLOWED) or any(len(row) != len(covered) for row in place.offsets):
        raise WrongUse("position: is of other topics than there are now")
    found = {
        (topic, number): offset
        for topic, row in zip(FOLLOWED, place.offsets, strict=True)
        for number, offset in zip(covered, row, strict=True)
    }
    wanted = range(partitions) if partition is None else (partition,)
    if any(number not in covered for number in wanted):
        raise WrongUse("position: is of another user's events, or of fewer users")
    return {(topic, number): found[topic, number] for topic in FOLLOWED for number in wanted}
