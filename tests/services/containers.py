"""Small videos made by hand, box by box."""

from __future__ import annotations

from devstack.emulator.drawing.plan import plan_picture
from devstack.emulator.drawing.webm import webm_of


def box(kind: bytes, content: bytes = b"") -> bytes:
    """A box of MP4."""
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def track(width: int, height: int, version: int = 0) -> bytes:
    """A track with these dimensions; 0 by 0 for a sound track."""
    before = bytes([version]) + b"\0" * (75 if version == 0 else 87)
    size = width.to_bytes(2, "big") + b"\0\0" + height.to_bytes(2, "big") + b"\0\0"
    return box(b"trak", box(b"edts") + box(b"tkhd", before + size))


def mp4(
    *tracks: bytes, brand: bytes = b"isom", compatible: bytes = b"isomiso2avc1", content: bytes = b"frames", first=True
) -> bytes:
    """A file with these tracks; `first` says whether the index comes before the frames."""
    index = box(b"moov", box(b"mvhd", b"\0" * 100) + b"".join(tracks or (track(640, 360),)))
    frames = box(b"mdat", content)
    return box(b"ftyp", brand + b"\0\0\2\0" + compatible) + (index + frames if first else frames + index)


def webm() -> bytes:
    """A real one."""
    return webm_of(plan_picture("a lake", 1, 0, (96, 64)))
