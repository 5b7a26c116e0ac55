"""Turns a good picture into a bad one. Pure."""

from __future__ import annotations

HUGE_PX = 40_000
PAGE = b"<!doctype html><title>Not a picture</title><script>document.title = 'run'</script>\n"


def corrupted(jpeg: bytes) -> bytes:
    """The file ends halfway: its header promises a picture that no decoder can finish."""
    return jpeg[: max(64, len(jpeg) // 2)]


def claimed_huge(jpeg: bytes, side_px: int = HUGE_PX) -> bytes:
    """The same file with other dimensions in its header: a decoder that believes it needs gigabytes."""
    place = _frame_header(jpeg)
    side = side_px.to_bytes(2, "big")
    return jpeg[: place + 5] + side + side + jpeg[place + 9 :]


def stamped(jpeg: bytes, text: str) -> bytes:
    """The same picture with a comment in it, so that its bytes are its own."""
    comment = text.encode()[:1000]
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def _frame_header(jpeg: bytes) -> int:
    """Where the start-of-frame segment begins. Raises ValueError: not a JPEG."""
    place = 2
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        if jpeg[place + 1] in (0xC0, 0xC1, 0xC2):
            return place
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
    raise ValueError("no start of frame: not a JPEG")
