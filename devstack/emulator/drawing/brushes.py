"""What every scene draws with. Coordinates are shares of the canvas: x of its width, y of its height.

Smooth things are drawn small and enlarged, edges are drawn at twice the size and reduced: this is what
keeps a picture at a few milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFilter

from devstack.emulator.drawing.colour import RGB
from devstack.emulator.drawing.plan import Dice

Curve = Callable[[float], float]


def gradient(size: tuple[int, int], stops: Sequence[RGB]) -> Image.Image:
    """Top to bottom through evenly spaced stops."""
    column = Image.new("RGB", (1, len(stops)))
    column.putdata(list(stops))
    return column.resize((2, size[1]), Image.Resampling.BICUBIC).resize(size, Image.Resampling.NEAREST)


def mesh(size: tuple[int, int], rows: Sequence[Sequence[RGB]]) -> Image.Image:
    """A soft field of colour through a small grid of colours."""
    grid = Image.new("RGB", (len(rows[0]), len(rows)))
    grid.putdata([colour for row in rows for colour in row])
    small = grid.resize((max(2, size[0] // 16), max(2, size[1] // 16)), Image.Resampling.BICUBIC)
    return small.resize(size, Image.Resampling.BILINEAR)


@lru_cache(maxsize=256)
def _spot(power: float, strength: float) -> Image.Image:
    """A round spot 256 pixels wide, brightest in the middle, 0 at its edge; a higher power is a tighter core."""
    reach = 180  # what Pillow's gradient has in the middle of its sides; its corners are past the edge
    return Image.radial_gradient("L").point(
        [round(255 * strength * max(0.0, 1 - value / reach) ** power) for value in range(256)]
    )


def glow(
    canvas: Image.Image, x: float, y: float, radius: float, colour: RGB, strength: float, power: float = 2.0
) -> None:
    """Light that fades out over `radius` (a share of the width)."""
    width, height = canvas.size
    side = max(4, round(2 * radius * width))
    spot = _spot(power, strength).resize((side, side), Image.Resampling.BILINEAR)
    canvas.paste(colour, (round(x * width) - side // 2, round(y * height) - side // 2), spot)


def _disc_mask(diameter_px: int) -> Image.Image:
    times = 4 if diameter_px <= 256 else 3
    side = diameter_px * times
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((1, 1, side - 2, side - 2), fill=255)
    return mask.reduce(times)


def disc(canvas: Image.Image, x: float, y: float, radius: float, colour: RGB | Image.Image) -> None:
    """A round shape with a clean edge; an image as colour is enlarged to fit."""
    width, height = canvas.size
    diameter = max(2, round(2 * radius * width))
    corner = (round(x * width) - diameter // 2, round(y * height) - diameter // 2)
    if isinstance(colour, Image.Image):
        colour = colour.resize((diameter, diameter), Image.Resampling.BILINEAR)
    canvas.paste(colour, corner, _disc_mask(diameter))


def shape_below(canvas: Image.Image, curve: Curve, stops: Sequence[RGB], shadow: float = 0.0, step_px: int = 6) -> None:
    """Everything below the curve (x share -> y share), filled from its crest downwards through the stops.

    `shadow` 0..1 lets the shape throw a soft shadow on what lies behind it, as cut paper does.
    """
    width, height = canvas.size
    points = [(x, curve(x / width) * height) for x in range(0, width + step_px, step_px)]
    top = max(0, math.floor(min(y for _, y in points)) - 1)
    full = min(height, math.ceil(max(y for _, y in points)) + 1)  # from here down all of the width is covered
    if top >= full:
        return
    mask = Image.new("L", (width * 2, (full - top) * 2))
    outline = [(2 * x, 2 * (y - top)) for x, y in points]
    outline += [(2 * (width + step_px), 2 * (full - top)), (0, 2 * (full - top))]
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    mask = mask.reduce(2)
    if shadow:
        _drop_shadow(canvas, mask, top, shadow)
    fill = gradient((width, height - top), stops)
    canvas.paste(fill.crop((0, 0, width, full - top)), (0, top), mask)
    if full < height:
        canvas.paste(fill.crop((0, full - top, width, height - top)), (0, full))


def _drop_shadow(canvas: Image.Image, mask: Image.Image, top: int, strength: float) -> None:
    width, height = canvas.size
    blur = max(1.0, width / 160)  # at an eighth of the size, where the shadow is drawn
    start = max(0, top - round(8 * 4 * blur))
    end = min(height, top + mask.height)  # further down the shape hides its own shadow
    eighth = (max(1, width // 8), max(1, (end - start) // 8))
    small = Image.new("L", eighth)
    small.paste(mask.resize((eighth[0], max(1, mask.height // 8))), (0, (top - start) // 8 - 1))
    small = small.filter(ImageFilter.GaussianBlur(blur)).point([round(v * strength) for v in range(256)])
    canvas.paste((8, 6, 24), (0, start), small.resize((width, end - start), Image.Resampling.BILINEAR))


def veil(canvas: Image.Image, y: float, thickness: float, colour: RGB, strength: float) -> None:
    """A band of mist, thickest at `y`."""
    width, height = canvas.size
    top, bottom = max(0, round((y - thickness) * height)), min(height, round((y + thickness) * height))
    if bottom - top < 2:
        return
    column = Image.new("L", (1, bottom - top))
    middle, reach = y * height - top, thickness * height
    column.putdata(
        [round(255 * strength * max(0.0, 1 - abs(row - middle) / reach) ** 2) for row in range(bottom - top)]
    )
    canvas.paste(colour, (0, top), column.resize((width, bottom - top), Image.Resampling.NEAREST))


def stars(canvas: Image.Image, dice: Dice, count: int, colour: RGB, lowest: float) -> None:
    """Small points, fewer and fainter towards `lowest`."""
    width, height = canvas.size
    sky = Image.new("L", (width, max(1, round(lowest * height))))
    draw = ImageDraw.Draw(sky)
    for _ in range(count):
        x, depth = dice.unit() * width, dice.unit()
        y, bright = depth * sky.height, dice.between(0.25, 1.0) * (1 - 0.8 * depth)
        size = 0.5 + dice.unit() ** 6 * 1.8 * width / 768
        draw.ellipse((x - size, y - size, x + size, y + size), fill=round(255 * bright))
    canvas.paste(colour, (0, 0), sky)


@lru_cache(maxsize=8)
def _vignette_of(size: tuple[int, int], strength: float) -> Image.Image:
    corners = Image.radial_gradient("L").point([round(255 * strength * (v / 255) ** 2.5) for v in range(256)])
    return corners.resize(size, Image.Resampling.BILINEAR)


def vignette(canvas: Image.Image, strength: float) -> None:
    """Corners a little darker, which holds the eye in the middle."""
    canvas.paste((6, 4, 20), (0, 0), _vignette_of(canvas.size, strength))


def hills(dice: Dice, base: float, swing: float, waves: int = 3) -> Curve:
    """A smooth crest line around `base`, swinging by about `swing`."""
    parts = [
        (
            swing / (order + 1) * dice.between(0.6, 1.0),
            (order + 1) * dice.between(1.6, 3.4),
            dice.between(0, 6.3),
        )
        for order in range(waves)
    ]
    return lambda x: base + sum(size * math.sin(speed * x * 2 + shift) for size, speed, shift in parts)


def peaks(dice: Dice, base: float, swing: float) -> Curve:
    """A mountain crest: midpoint displacement, so sharp at every scale but never noisy."""
    heights = [dice.between(-1, 1), dice.between(-1, 1), dice.between(-1, 1), dice.between(-1, 1)]
    reach = 0.75
    while len(heights) < 96:
        middles = [(a + b) / 2 + dice.between(-reach, reach) for a, b in pairwise(heights)]
        joined = [value for pair in zip(heights, middles, strict=False) for value in pair]
        heights = [*joined, heights[-1]]
        reach *= 0.48
    last = len(heights) - 1

    def crest(x: float) -> float:
        place = min(max(x, 0.0), 1.0) * last
        left = min(int(place), last - 1)
        return base - swing * (heights[left] + (heights[left + 1] - heights[left]) * (place - left))

    return crest
