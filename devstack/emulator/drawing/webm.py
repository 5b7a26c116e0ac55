"""A short silent video: VP8 key frames, as Pillow writes them into WebP, in a WebM container."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

from PIL import Image

from devstack.emulator.drawing.draw import draw_picture
from devstack.emulator.drawing.plan import PicturePlan

FRAMES = 16
FRAME_MS = 125
_LONG_SIDE_PX = 480


def webm_of(plan: PicturePlan) -> bytes:
    """Two seconds of a slow push into the picture."""
    scale = min(1.0, _LONG_SIDE_PX / max(plan.width, plan.height))
    width, height = (round(side * scale / 2) * 2 for side in (plan.width, plan.height))
    still = draw_picture(replace(plan, width=width, height=height))
    frames = []
    for number in range(FRAMES):
        inset = 0.10 * number / FRAMES
        box = (width * inset, height * inset, width * (1 - inset), height * (1 - inset))
        frames.append(_vp8_of(still.resize((width, height), Image.Resampling.BILINEAR, box=box)))
    return _container(width, height, frames)


def _vp8_of(frame: Image.Image) -> bytes:
    buffer = io.BytesIO()
    frame.save(buffer, "WEBP", quality=70, method=0)
    riff = buffer.getvalue()
    place = riff.index(b"VP8 ")
    size = int.from_bytes(riff[place + 4 : place + 8], "little")
    return riff[place + 8 : place + 8 + size]


def _container(width: int, height: int, frames: list[bytes]) -> bytes:
    header = _element(
        0x1A45DFA3, _uint(0x4286, 1), _uint(0x42F7, 1), _uint(0x42F2, 4), _uint(0x42F3, 8),
        _element(0x4282, b"webm"), _uint(0x4287, 2), _uint(0x4285, 2),
    )  # fmt: skip
    info = _element(
        0x1549A966, _uint(0x2AD7B1, 1_000_000), _element(0x4489, _float(FRAMES * FRAME_MS)),
        _element(0x4D80, b"darkroom"), _element(0x5741, b"darkroom"),
    )  # fmt: skip
    video = _element(0xE0, _uint(0xB0, width), _uint(0xBA, height))
    track = _element(0xAE, _uint(0xD7, 1), _uint(0x73C5, 1), _uint(0x83, 1), _element(0x86, b"V_VP8"), video)
    blocks = [
        _element(0xA3, b"\x81" + (number * FRAME_MS).to_bytes(2, "big") + b"\x80" + frame)
        for number, frame in enumerate(frames)
    ]
    cluster = _element(0x1F43B675, _uint(0xE7, 0), *blocks)
    return header + _element(0x18538067, info, _element(0x1654AE6B, track), cluster)


def _element(number: int, *content: bytes) -> bytes:
    """An EBML element: its id, its size in eight bytes, what is in it."""
    inside = b"".join(content)
    size = (len(inside) | 1 << 56).to_bytes(8, "big")
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + size + inside


def _uint(number: int, value: int) -> bytes:
    return _element(number, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _float(value: float) -> bytes:
    return struct.pack(">d", value)
