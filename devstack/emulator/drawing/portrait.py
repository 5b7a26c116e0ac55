"""A portrait without a face: head, hair and shoulders as calm shapes before a disc or an arch."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from devstack.emulator.drawing import brushes
from devstack.emulator.drawing.colour import RGB, darker, lighter, mixed, rgb_of
from devstack.emulator.drawing.palettes import Palette
from devstack.emulator.drawing.plan import Dice
from devstack.emulator.drawing.still import field

Point = tuple[float, float]

_SKIN = ((0.84, 0.055, 60), (0.76, 0.075, 58), (0.66, 0.085, 55), (0.55, 0.085, 50), (0.44, 0.070, 48))
_HAIR = (
    (0.24, 0.03, 50),
    (0.34, 0.06, 50),
    (0.47, 0.09, 58),
    (0.72, 0.09, 80),
    (0.44, 0.12, 38),
    (0.66, 0.015, 80),
)

# Outlines around the middle of the face, in shares of the figure's unit; half of a symmetric shape, top to bottom.
_HEAD: list[Point] = [
    (0.0, -0.235),
    (0.115, -0.19),
    (0.152, -0.06),
    (0.138, 0.07),
    (0.078, 0.172),
    (0.0, 0.205),
]
_NECK: list[Point] = [(0.0, 0.05), (0.07, 0.08), (0.07, 0.27), (0.13, 0.34), (0.0, 0.44)]
_LONG_HAIR: list[Point] = [
    (0.0, -0.285),
    (0.13, -0.25),
    (0.215, -0.10),
    (0.225, 0.12),
    (0.215, 0.36),
    (0.0, 0.40),
]
_LONGER_HAIR: list[Point] = [
    (0.0, -0.285),
    (0.13, -0.25),
    (0.22, -0.10),
    (0.25, 0.15),
    (0.27, 0.52),
    (0.0, 0.56),
]
_SHORT_HAIR: list[Point] = [
    (0.0, -0.29),
    (0.12, -0.26),
    (0.178, -0.12),
    (0.165, 0.02),
    (0.10, 0.05),
    (0.0, 0.05),
]
_KNOT: list[Point] = [(0.0, -0.41), (0.085, -0.375), (0.105, -0.295), (0.0, -0.22)]

# Closed outlines of hair that falls over the forehead.
_PARTED_RIGHT: list[Point] = [
    (0.05, -0.275), (0.14, -0.235), (0.195, -0.08), (0.19, 0.14), (0.155, 0.15), (0.150, -0.02), (0.105, -0.13),
    (0.05, -0.19),
]  # fmt: skip
_PARTED_LEFT: list[Point] = [
    (0.06, -0.275), (-0.13, -0.255), (-0.20, -0.08), (-0.195, 0.15), (-0.158, 0.16), (-0.150, -0.01),
    (-0.09, -0.12), (0.05, -0.185),
]  # fmt: skip
_SWEPT: list[Point] = [
    (-0.160, -0.02), (-0.185, -0.16), (-0.10, -0.285), (0.06, -0.305), (0.175, -0.20), (0.160, -0.02),
    (0.138, -0.11), (0.06, -0.165), (-0.06, -0.145), (-0.13, -0.11),
]  # fmt: skip
_DRAWN_BACK: list[Point] = [
    (-0.156, -0.03), (-0.170, -0.15), (-0.09, -0.265), (0.0, -0.285), (0.09, -0.265), (0.170, -0.15),
    (0.156, -0.03), (0.125, -0.125), (0.0, -0.205), (-0.125, -0.125),
]  # fmt: skip


def portrait(size: tuple[int, int], palette: Palette, dice: Dice) -> Image.Image:
    canvas = field(size, palette, dice, softness=0.45)
    width, height = size
    unit = min(width, height * 0.86)
    figure = _Figure(canvas, width * (0.5 + dice.between(-0.03, 0.03)), height * 0.43, unit)
    figure.backdrop(palette, dice)
    skin = rgb_of(_SKIN[dice.whole(0, len(_SKIN) - 1)])
    hair = rgb_of(_HAIR[dice.whole(0, len(_HAIR) - 1)])
    cloth = palette.accents[dice.whole(0, 3)]
    style = ("long", "longer", "short", "knot", "curls")[dice.whole(0, 4)]
    figure.hair_behind(hair, style, dice)
    figure.shoulders(cloth, palette, dice)
    figure.fill(_mirrored(_NECK), darker(skin, 0.20), darker(skin, 0.06))
    if dice.unit() < 0.35:
        figure.collar(cloth, palette)
    figure.fill(_mirrored(_HEAD), skin, mixed(skin, (255, 244, 226), 0.45))
    figure.hair_before(hair, style, dice)
    return canvas


class _Figure:
    """Draws shapes around the middle of a face at pixel (x, y); lengths are shares of `unit` pixels."""

    def __init__(self, canvas: Image.Image, x: float, y: float, unit: float) -> None:
        self.canvas, self.x, self.y, self.unit = canvas, x, y, unit

    def fill(self, outline: list[Point], colour: RGB, lit: RGB) -> None:
        """A smooth closed shape through the points, lit from the upper left."""
        shape = [(self.x + a * self.unit, self.y + b * self.unit) for a, b in _smooth(outline)]
        left, top = math.floor(min(a for a, _ in shape)) - 2, math.floor(min(b for _, b in shape)) - 2
        right, bottom = math.ceil(max(a for a, _ in shape)) + 2, math.ceil(max(b for _, b in shape)) + 2
        bottom = min(bottom, self.canvas.size[1] + 2)
        box = (right - left, bottom - top)
        mask = Image.new("L", (box[0] * 2, box[1] * 2))
        ImageDraw.Draw(mask).polygon([((a - left) * 2, (b - top) * 2) for a, b in shape], fill=255)
        shade = darker(colour, 0.26)
        paint = brushes.mesh(box, [[lit, colour, colour], [colour, colour, shade], [colour, shade, shade]])
        self.canvas.paste(paint, (left, top), mask.reduce(2))

    def round_spot(self, a: float, b: float, radius: float, colour: RGB) -> None:
        width, height = self.canvas.size
        x, y = (self.x + a * self.unit) / width, (self.y + b * self.unit) / height
        brushes.disc(self.canvas, x, y, radius * self.unit / width, colour)

    def backdrop(self, palette: Palette, dice: Dice) -> None:
        """A disc of light behind the head, or an arch to stand in."""
        width, height = self.canvas.size
        colour = mixed(palette.accents[1], palette.light, 0.45)
        radius = dice.between(0.35, 0.41)
        arch = dice.unit() < 0.45
        self.round_spot(0.0, 0.0, radius, colour)
        if arch:
            left, right = round(self.x - radius * self.unit), round(self.x + radius * self.unit)
            self.canvas.paste(colour, (left, round(self.y), right, height))
        brushes.glow(self.canvas, self.x / width, self.y / height, radius * self.unit / width, palette.light, 0.5, 1.3)

    def shoulders(self, cloth: RGB, palette: Palette, dice: Dice) -> None:
        floor = (self.canvas.size[1] - self.y) / self.unit + 0.2
        broad = dice.between(0.35, 0.41)
        half = [(0.0, 0.34), (0.09, 0.325), (0.20, 0.375), (broad - 0.03, 0.46), (broad + 0.03, 0.62),
                (broad + 0.05, floor), (0.0, floor)]  # fmt: skip
        self.fill(_mirrored(half), cloth, lighter(cloth, 0.35))

    def collar(self, cloth: RGB, palette: Palette) -> None:
        half = [(0.0, 0.205), (0.074, 0.205), (0.083, 0.29), (0.150, 0.345), (0.0, 0.47)]
        self.fill(_mirrored(half), mixed(cloth, palette.near, 0.18), lighter(cloth, 0.22))

    def hair_behind(self, hair: RGB, style: str, dice: Dice) -> None:
        lit = lighter(hair, 0.16)
        if style == "curls":
            self._curls(hair, dice, 46, 0.0)
            return
        outline = {"long": _LONG_HAIR, "longer": _LONGER_HAIR}.get(style, _SHORT_HAIR)
        self.fill(_mirrored(outline), darker(hair, 0.12), hair)
        if style == "knot":
            self.fill(_mirrored(_KNOT), hair, lit)

    def hair_before(self, hair: RGB, style: str, dice: Dice) -> None:
        lit = lighter(hair, 0.24)
        if style in ("long", "longer"):
            turned = -1 if dice.unit() < 0.5 else 1
            self.fill([(turned * a, b) for a, b in _PARTED_RIGHT], hair, lit)
            self.fill([(turned * a, b) for a, b in _PARTED_LEFT], hair, lit)
        elif style == "short":
            self.fill(_SWEPT, hair, lit)
        elif style == "knot":
            self.fill(_DRAWN_BACK, hair, lit)
        else:
            self._curls(hair, dice, 16, -0.175)

    def _curls(self, hair: RGB, dice: Dice, count: int, fringe: float) -> None:
        """A cloud of curls around the head, or only along the hairline when `fringe` is set."""
        for number in range(count):
            share = number / (count - 1)
            angle = math.pi * (1.16 + 0.68 * share) if fringe else math.pi * (0.80 + 1.40 * share)
            reach = 0.185 if fringe else dice.between(0.16, 0.235)
            a, b = reach * math.cos(angle) * 1.02, -0.055 + reach * math.sin(angle) * 1.08
            tone = lighter(hair, dice.between(0.0, 0.16)) if number % 3 else darker(hair, 0.12)
            self.round_spot(a, b, dice.between(0.042, 0.066) if not fringe else 0.044, tone)


def _mirrored(half: list[Point]) -> list[Point]:
    """The whole outline from its right half, which starts and ends on the middle line."""
    return half + [(-a, b) for a, b in reversed(half[1:-1])]


def _smooth(points: list[Point], steps: int = 8) -> list[Point]:
    """A closed curve through all points (Catmull-Rom)."""
    curve = []
    for index in range(len(points)):
        nearby = [points[(index + offset) % len(points)] for offset in (-1, 0, 1, 2)]
        for t in (step / steps for step in range(steps)):
            weights = (
                -0.5 * t + t * t - 0.5 * t**3,
                1 - 2.5 * t * t + 1.5 * t**3,
                0.5 * t + 2 * t * t - 1.5 * t**3,
                -0.5 * t * t + 0.5 * t**3,
            )
            curve.append(
                (
                    sum(weight * a for weight, (a, _) in zip(weights, nearby, strict=True)),
                    sum(weight * b for weight, (_, b) in zip(weights, nearby, strict=True)),
                )
            )
    return curve
