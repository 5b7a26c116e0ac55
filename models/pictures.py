"""Pictures and videos in our storage: their keys, what may become one, and where they may be fetched from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from models.errors import DarkroomError
from models.requests import Options

BYTES_MAX = 25 << 20
PIXELS_MAX = 50_000_000
VIDEO_BYTES_MAX = 256 << 20
THUMBNAIL_SIDE_PX = 384
REDIRECTS_MAX = 3
OUTPUTS_MAX = 16

PICTURE_TYPES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
VIDEO_TYPES = {"video/mp4": "mp4", "video/webm": "webm"}
FOLDERS = {"images": PICTURE_TYPES, "thumbnails": {"image/webp": "webp"}, "videos": VIDEO_TYPES}
"""Where objects are kept, and the content types that each folder holds, with their extensions."""

_KEY = re.compile(r"([a-z]+)/([0-9a-f]{2})/(\2[0-9a-f]{62})\.([a-z0-9]+)\Z", re.ASCII)


class OutputLost(DarkroomError):
    """An output that can never become a picture or video; `reason` is a stable code."""

    code = "output_lost"

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class StoringWork(msgspec.Struct, frozen=True):
    """A request whose outputs are to be kept.

    `attempt` counts from 1, `age_s` from the provider's success, which was at `storing_at_s` by the database's clock.
    """

    user_id: str
    request_id: str
    operation: str
    options: Options
    prediction_id: str
    output_urls: list[str]
    attempt: int
    age_s: float
    storing_at_s: float
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A checked picture and its thumbnail (WebP)."""

    width: int
    height: int
    content_type: str
    sha256: str
    thumbnail: bytes

    @property
    def key(self) -> str:
        """Content-addressed: the same bytes are the same object."""
        return f"images/{self.sha256[:2]}/{self.sha256}.{PICTURE_TYPES[self.content_type]}"

    @property
    def thumbnail_key(self) -> str:
        """Named by the picture that it shows."""
        return f"thumbnails/{self.sha256[:2]}/{self.sha256}.webp"


@dataclass(frozen=True, slots=True)
class Video:
    """A checked video. Width and height are 0 where its header does not say."""

    width: int
    height: int
    content_type: str
    sha256: str

    @property
    def key(self) -> str:
        """Content-addressed: the same bytes are the same object."""
        return f"videos/{self.sha256[:2]}/{self.sha256}.{VIDEO_TYPES[self.content_type]}"


def content_type_of_key(key: str) -> str | None:
    """The content type behind a key of ours; None for anything that is not one."""
    match = _KEY.match(key)
    if match is None:
        return None
    return next((kind for kind, extension in FOLDERS.get(match[1], {}).items() if extension == match[4]), None)


def sha256_of_key(key: str) -> str | None:
    """The digest that a key of ours is made from; None for anything that is not one."""
    match = _KEY.match(key)
    return match[3] if match is not None and content_type_of_key(key) is not None else None


def is_listed_host(host: str, allowed: Iterable[str]) -> bool:
    """Whether a host is on the list; `*.example.com` stands for every name below example.com."""
    host = host.lower().rstrip(".")
    for pattern in (listed.lower().rstrip(".") for listed in allowed):
        below = pattern[1:] if pattern.startswith("*.") else ""
        if host == pattern or (below and host.endswith(below) and host != below):
            return True
    return False


def is_public_address(address: str) -> bool:
    """Whether an IP address is one of the open internet, not of ours, of this machine or of its cloud."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_global and not parsed.is_multicast


_SAYS_NOTHING = ("", "application/octet-stream", "binary/octet-stream")


def may_be_picture(declared: str) -> bool:
    """Whether a declared content type leaves room for a picture; what it really is, its bytes say."""
    kind = _kind(declared)
    return kind in PICTURE_TYPES or kind in _SAYS_NOTHING or kind == "image/jpg"


def may_be_video(declared: str) -> bool:
    """The same for a video."""
    kind = _kind(declared)
    return kind in VIDEO_TYPES or kind in _SAYS_NOTHING or kind == "application/mp4"


def _kind(declared: str) -> str:
    return declared.partition(";")[0].strip().lower()
