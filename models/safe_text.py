"""Showing foreign bytes to a person: nothing in them may move a cursor, colour a screen or reverse a line."""

from __future__ import annotations

import unicodedata

SHOWN_BYTES_MAX = 4096


def safe_text(text: str, characters_max: int = SHOWN_BYTES_MAX) -> str:
    """The text on one line, with everything that a terminal would act on escaped; bounded."""
    cut = text[:characters_max]
    shown = "".join(_shown(character) for character in cut)
    return shown if len(text) <= characters_max else f"{shown}… ({len(text) - characters_max} more characters)"


def safe_bytes(data: bytes, bytes_max: int = SHOWN_BYTES_MAX) -> str:
    """Text as escaped text on one line, anything else as a hex dump of lines; bounded."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return hex_dump(data, bytes_max)
    if text and sum(map(str.isprintable, text)) < 0.7 * len(text):
        return hex_dump(data, bytes_max)
    return safe_text(text, bytes_max)


def hex_dump(data: bytes, bytes_max: int = SHOWN_BYTES_MAX) -> str:
    """Sixteen bytes a line: place, hex, and what is printable ASCII of them."""
    cut = data[:bytes_max]
    lines = []
    for start in range(0, len(cut), 16):
        row = cut[start : start + 16]
        seen = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<47}  {seen}")
    if len(data) > bytes_max:
        lines.append(f"… ({len(data) - bytes_max} more bytes)")
    return "\n".join(lines)


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    # Combining marks are printable and can be piled up over the lines above.
    if character.isprintable() and not unicodedata.combining(character):
        return character
    return character.encode("unicode_escape").decode()
