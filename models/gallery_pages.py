"""Pages of a user's gallery: what is asked for, what is shown, and the cursor from one page to the next. Pure.

The order is newest first, and by id where two are equally new; a cursor is a place in this order. So pages neither
repeat nor skip what was there from the beginning, whatever comes or goes meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import Annotated

import msgspec

from models.errors import WrongUse
from models.operations import OPERATIONS
from models.requests import Id

PAGE_DEFAULT = 30
PAGE_MAX = 100
CURSOR_CHARACTERS_MAX = 400
IMAGE_ID_PATTERN = r"^[A-Za-z0-9._:\-]{1,140}\Z"

_IMAGE_ID = re.compile(IMAGE_ID_PATTERN)


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A place in the order: `at_us` is a row's created_at in microseconds since the epoch."""

    at_us: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    image_id: Annotated[str, msgspec.Meta(pattern=IMAGE_ID_PATTERN)]


class GalleryQuery(msgspec.Struct, frozen=True):
    """What to show of a user's gallery. Raises WrongUse if it cannot be asked for."""

    user_id: Id
    limit: int = PAGE_DEFAULT
    after: Place | None = None
    operation: str | None = None
    favorites_only: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= PAGE_MAX:
            raise WrongUse(f"limit: must be from 1 to {PAGE_MAX}")
        if self.operation is not None and self.operation not in OPERATIONS:
            raise WrongUse("operation: must be one of " + ", ".join(OPERATIONS))


class GalleryItem(msgspec.Struct, frozen=True):
    """A picture or video. A video's `thumbnail_url` is empty; its sides are 0 where its file does not say."""

    image_id: str
    request_id: str
    operation: str
    source: str
    prompt: str
    url: str
    thumbnail_url: str
    width: int
    height: int
    content_type: str
    bytes: int
    is_favorite: bool
    created_at: datetime


class GalleryPage(msgspec.Struct, frozen=True):
    """One page; `next_cursor` leads to the one after it, None if there is none."""

    items: list[GalleryItem]
    next_cursor: str | None


def is_image_id(text: str) -> bool:
    """Whether something can be the name of a picture or video."""
    return _IMAGE_ID.match(text) is not None


def cursor_of(place: Place) -> str:
    """The cursor of what follows a place. What is in it is nobody's business and may change."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """The place behind a cursor. Raises WrongUse: it is none of ours."""
    try:
        if len(cursor) > CURSOR_CHARACTERS_MAX:
            raise ValueError("too long")
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(data, type=Place)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise WrongUse("cursor: is not one that this gallery gave") from error
