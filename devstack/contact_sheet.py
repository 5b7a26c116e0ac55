"""One picture of many: thumbnails with captions on quiet paper, for the demo."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

PICTURES_MAX = 60
COLUMNS_MAX = 10
_SIDE_PX_MAX = 4096
_CELL_PX = 300
_SCALE = 4  # rounded corners are drawn so many times larger, then reduced
_PAPER = (247, 245, 241)
_INK = (58, 54, 52)
_PALE_INK = (150, 143, 137)
_EMPTY = (226, 222, 215)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_contact_sheet(pictures: Sequence[tuple[bytes, str]], columns: int = 4) -> bytes:
    """A PNG of at most 60 pictures, in the order given; its sides are at most 4096 pixels.

    Each picture is (encoded bytes, caption); a caption's second line is set paler. Bytes that are no picture
    (a video, a spoiled file) become an empty tile. Raises ValueError: columns is not from 1 to 10.
    """
    if not 1 <= columns <= COLUMNS_MAX:
        raise ValueError(f"columns: {columns} is not from 1 to {COLUMNS_MAX}")
    shown = [(_opened(content), caption) for content, caption in pictures[:PICTURES_MAX]]
    layout = _Layout([picture for picture, _ in shown], columns)
    sheet = Image.new("RGB", layout.size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    if not shown:
        draw.text((sheet.width / 2, sheet.height / 2), "No pictures yet", _PALE_INK, layout.font, anchor="mm")
    corners, shadow = layout.corners(), layout.shadow()
    for number, (picture, caption) in enumerate(shown):
        left, top = layout.place(number)
        sheet.paste((70, 58, 50), (left - layout.gap, top - layout.gap), shadow)
        tile = Image.new("RGB", layout.tile, _EMPTY)
        if picture is not None:
            tile = ImageOps.fit(picture, layout.tile, Image.Resampling.LANCZOS, centering=(0.5, 0.42))
        sheet.paste(tile, (left, top), corners)
        lines = (caption.strip().splitlines() or [""])[:2]
        for line, (text, ink) in enumerate(zip(lines, (_INK, _PALE_INK), strict=False)):
            below = top + layout.tile[1] + round(layout.gap * 0.42) + line * layout.line_height
            font = layout.font if line == 0 else layout.small_font
            draw.text((left + 2, below), _shortened(text, font, layout.tile[0] - 4), ink, font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


class _Layout:
    """Sizes and places in pixels; everything shrinks together until the sheet fits its bound."""

    def __init__(self, pictures: Sequence[Image.Image | None], columns: int) -> None:
        count = max(1, len(pictures))
        self.columns = min(columns, count)
        rows = -(-count // self.columns)
        aspect = _usual_aspect(pictures)
        scale = 1.0
        while True:
            cell = round(_CELL_PX * scale)
            self.tile = (cell, round(cell / aspect))
            self.gap = max(6, round(30 * scale))
            self.margin = round(self.gap * 1.7)
            self.line_height = round(19 * scale) + 1
            self.font = ImageFont.load_default(max(8, round(14.5 * scale)))
            self.small_font = ImageFont.load_default(max(7, round(12.5 * scale)))
            self.row_height = self.tile[1] + round(self.gap * 1.15) + 2 * self.line_height
            width = 2 * self.margin + self.columns * cell + (self.columns - 1) * self.gap
            height = 2 * self.margin + rows * self.row_height - self.gap // 2
            if max(width, height) <= _SIDE_PX_MAX:
                break
            scale *= 0.92
        self.size = (max(width, 280), height)

    def place(self, number: int) -> tuple[int, int]:
        row, column = divmod(number, self.columns)
        return self.margin + column * (self.tile[0] + self.gap), self.margin + row * self.row_height

    def corners(self) -> Image.Image:
        """The tile's shape: a rectangle with round corners."""
        width, height = self.tile[0] * _SCALE, self.tile[1] * _SCALE
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), self.tile[0] * _SCALE // 18, fill=255)
        return mask.reduce(_SCALE)

    def shadow(self) -> Image.Image:
        """A soft shadow, a gap wider than the tile on every side and a little lower than it."""
        gap, (width, height) = self.gap, self.tile
        mask = Image.new("L", (width + 2 * gap, height + 2 * gap))
        box = (gap + 2, gap + gap // 3, gap + width - 2, gap + height + gap // 4)
        ImageDraw.Draw(mask).rounded_rectangle(box, width // 18, fill=78)
        return mask.filter(ImageFilter.GaussianBlur(gap / 3.2))


def _opened(content: bytes) -> Image.Image | None:
    try:
        picture = Image.open(io.BytesIO(content))
        picture.draft("RGB", (_CELL_PX * 2, _CELL_PX * 2))
        return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _usual_aspect(pictures: Sequence[Image.Image | None]) -> float:
    """Width by height of most pictures, kept between 3:4 and 4:3; the others are cut to it."""
    seen = Counter(round(picture.width / picture.height, 2) for picture in pictures if picture is not None)
    usual = seen.most_common(1)[0][0] if seen else 1.0
    return min(4 / 3, max(3 / 4, usual))


def _shortened(text: str, font: Font, width_px: int) -> str:
    text = " ".join(text.split())[:200]
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text.rstrip(" ,.;:") + "…"
