"""Reading videos that somebody else made: sniffed and measured by their containers, never decoded.

Only headers are read, however large the file is. Blocking: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from models.pictures import PIXELS_MAX, OutputLost, Video

ELEMENTS_MAX = 10_000
HEADER_BYTES_MAX = 4096

_MP4_BRANDS = {b"isom", b"mp41", b"mp42", b"avc1", b"dash", b"M4V ", *(b"iso%d" % number for number in range(2, 10))}
_TKHD_BYTES = (84, 96)  # by version
_EBML, _DOC_TYPE, _SEGMENT, _TRACKS, _TRACK = 0x1A45DFA3, 0x4282, 0x18538067, 0x1654AE6B, 0xAE
_VIDEO, _PIXEL_WIDTH, _PIXEL_HEIGHT = 0xE0, 0xB0, 0xBA


class _Part(NamedTuple):
    """A box of MP4 or an element of WebM: what it is and where its content lies. `end` may be past the file's."""

    kind: int | bytes
    begin: int
    end: int


def read_video(file: BinaryIO, size_bytes: int, sha256: str) -> Video:
    """Check a file by its container.

    Raises OutputLost: wrong_type (neither MP4 nor WebM), corrupt_video (it breaks off) or too_many_pixels.
    """
    file.seek(0)
    head = file.read(HEADER_BYTES_MAX)
    if _is_mp4(head):
        content_type, (width, height) = "video/mp4", _measure_mp4(file, size_bytes)
    elif head.startswith(_EBML.to_bytes(4, "big")):
        content_type, (width, height) = "video/webm", _measure_webm(file, size_bytes)
    else:
        raise OutputLost("wrong_type", "the file is neither MP4 nor WebM")
    if width * height > PIXELS_MAX:
        raise OutputLost("too_many_pixels", f"{width} x {height} is more than {PIXELS_MAX} pixels")
    return Video(width, height, content_type, sha256)


def _is_mp4(head: bytes) -> bool:
    """Whether the file begins with a file type box that names a brand of MP4 as its own or as compatible."""
    size = int.from_bytes(head[:4], "big")
    if head[4:8] != b"ftyp" or size < 16:
        return False
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    return bool(brands & _MP4_BRANDS)


def _measure_mp4(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    boxes = list(_boxes(file, 0, size_bytes))
    if boxes[-1].end != size_bytes or not any(box.kind == b"moov" for box in boxes):
        raise OutputLost("corrupt_video", "the file breaks off")
    for movie in (box for box in boxes if box.kind == b"moov"):
        for track in (box for box in _boxes(file, movie.begin, movie.end) if box.kind == b"trak"):
            for header in (box for box in _boxes(file, track.begin, track.end) if box.kind == b"tkhd"):
                file.seek(header.begin)
                content = file.read(max(_TKHD_BYTES))
                length = _TKHD_BYTES[1 if content[:1] == b"\x01" else 0]
                # Fixed point, 16 bits before the point; a sound track has no size.
                width, height = (int.from_bytes(content[at : at + 2], "big") for at in (length - 8, length - 4))
                if len(content) >= length and width and height:
                    return width, height
    return 0, 0


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[_Part]:
    """The boxes between two places; the last one may reach further than it should."""
    for _ in range(ELEMENTS_MAX):
        if begin >= end:
            return
        file.seek(begin)
        head = file.read(16)
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], begin + 8
        if size == 1:
            size, content = int.from_bytes(head[8:16], "big"), begin + 16
        box_end = begin + size if size else end
        if box_end < content or len(head) < 8:
            raise OutputLost("corrupt_video", "a box is smaller than its header")
        yield _Part(kind, content, box_end)
        begin = box_end
    raise OutputLost("corrupt_video", f"more than {ELEMENTS_MAX} boxes")


def _measure_webm(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    header, segment = _first(file, _Part(b"", 0, size_bytes), _EBML), _first(file, _Part(b"", 0, size_bytes), _SEGMENT)
    doc_type = _first(file, header, _DOC_TYPE) if header is not None else None
    if doc_type is None or _content(file, doc_type).rstrip(b"\0") != b"webm":
        raise OutputLost("wrong_type", "the file is Matroska but not WebM")
    if segment is None or segment.end > size_bytes:
        raise OutputLost("corrupt_video", "the file breaks off")
    tracks = _first(file, segment, _TRACKS)
    for track in _elements(file, tracks) if tracks is not None else ():
        video = _first(file, track, _VIDEO) if track.kind == _TRACK else None
        if video is not None:
            width, height = _first(file, video, _PIXEL_WIDTH), _first(file, video, _PIXEL_HEIGHT)
            if width is not None and height is not None:
                return _number(file, width), _number(file, height)
    return 0, 0


def _first(file: BinaryIO, parent: _Part, kind: int) -> _Part | None:
    return next((element for element in _elements(file, parent) if element.kind == kind), None)


def _elements(file: BinaryIO, parent: _Part) -> Iterator[_Part]:
    """The elements in another one. One of unknown size, as live recorders write them, reaches to its parent's end."""
    begin = parent.begin
    for _ in range(ELEMENTS_MAX):
        if begin >= parent.end:
            return
        file.seek(begin)
        head = file.read(12)
        id_bytes = _length(head[:1], 4)
        size_bytes = _length(head[id_bytes : id_bytes + 1], 8)
        if not id_bytes or not size_bytes or len(head) < id_bytes + size_bytes:
            raise OutputLost("corrupt_video", "an element has no good header")
        size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        is_unknown = size == (1 << 7 * size_bytes) - 1
        content = begin + id_bytes + size_bytes
        end = parent.end if is_unknown else content + size
        yield _Part(int.from_bytes(head[:id_bytes], "big"), content, end)
        begin = end
    raise OutputLost("corrupt_video", f"more than {ELEMENTS_MAX} elements")


def _length(first: bytes, most: int) -> int:
    """How many bytes a number of variable length has, by its first one; 0 if that cannot be."""
    length = 9 - first[0].bit_length() if first and first[0] else 0
    return length if length <= most else 0


def _content(file: BinaryIO, element: _Part) -> bytes:
    file.seek(element.begin)
    return file.read(min(element.end - element.begin, HEADER_BYTES_MAX))


def _number(file: BinaryIO, element: _Part) -> int:
    # Eight bytes are the most that a number may have.
    return int.from_bytes(_content(file, element)[:8], "big")
