"""Pictures in our storage: their keys, what may become one, and where they may be fetched from."""

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
THUMBNAIL_SIDE_PX = 384
REDIRECTS_MAX = 3
OUTPUTS_MAX = 16

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
CONTENT_TYPES = {extension: content_type for content_type, extension in EXTENSIONS.items()}

_KEY = re.compile(r"(images|thumbnails)/([0-9a-f]{2})/(([0-9a-f]{2})[0-9a-f]{62})\.(jpg|png|webp)\Z")


class OutputLost(DarkroomError):
    """An output that can never become a picture; `reason` is a stable code."""

    code = "output_lost"

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class StoringWork(msgspec.Struct, frozen=True):
    """A request whose outputs are to be kept. `attempt` counts from 1, `age_s` from the provider's success."""

    user_id: str
    request_id: str
    operation: str
    options: Options
    prediction_id: str
    output_urls: list[str]
    attempt: int
    age_s: float


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
        return f"images/{self.sha256[:2]}/{self.sha256}.{EXTENSIONS[self.content_type]}"

    @property
    def thumbnail_key(self) -> str:
        """Named by the picture that it shows."""
        return f"thumbnails/{self.sha256[:2]}/{self.sha256}.webp"


def content_type_of_key(key: str) -> str | None:
    """The content type behind a key of ours; None for anything that is not one."""
    match = _KEY.match(key)
    if match is None or match[2] != match[4] or (match[1] == "thumbnails" and match[5] != "webp"):
        return None
    return CONTENT_TYPES[match[5]]


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


def may_be_picture(declared: str) -> bool:
    """Whether a declared content type leaves room for a picture; what it really is, its bytes say."""
    kind = declared.partition(";")[0].strip().lower()
    return kind in EXTENSIONS or kind in ("", "application/octet-stream", "binary/octet-stream", "image/jpg")
