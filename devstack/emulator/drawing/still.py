"""Scenes without a horizon: glass orbs, cut paper, blossoms."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from devstack.emulator.drawing import brushes
from devstack.emulator.drawing.colour import RGB, darker, lighter, mixed
from devstack.emulator.drawing.palettes import Palette
from devstack.emulator.drawing.plan import Dice

Size = tuple[int, int]


def field(size: Size, palette: Palette, dice: Dice, softness: float = 0.0) -> Image.Image:
    """A calm coloured background; `softness` 0..1 takes contrast out."""
    sky, accents = palette.sky, palette.accents
    middle = mixed(sky[1], sky[2], 0.5)

    def cell(first: RGB, second: RGB, low: float, high: float) -> RGB:
        return mixed(mixed(first, second, dice.between(low, high)), middle, softness)

    one, two, three, four = accents
    top = [cell(sky[0], sky[1], 0.1, 0.6), cell(sky[0], one, 0.0, 0.4), cell(sky[1], sky[2], 0.0, 0.6)]
    upper = [cell(sky[1], one, 0.0, 0.5), cell(sky[2], sky[3], 0.2, 0.8), cell(sky[2], two, 0.1, 0.6)]
    lower = [cell(sky[2], three, 0.0, 0.5), cell(sky[3], two, 0.0, 0.5), cell(sky[3], sky[2], 0.0, 0.5)]
    bottom = [cell(sky[1], three, 0.2, 0.6), cell(sky[2], one, 0.2, 0.6), cell(sky[1], four, 0.1, 0.5)]
    return brushes.mesh(size, [top, upper, lower, bottom])


def orbs(size: Size, palette: Palette, dice: Dice) -> Image.Image:
    canvas = field(size, palette, dice, softness=0.25)
    aspect = size[0] / size[1]
    placed: list[tuple[float, float, float]] = []
    wanted = [dice.between(0.20, 0.27), *(dice.between(0.07, 0.15) for _ in range(3)),
              *(dice.between(0.022, 0.05) for _ in range(5))]  # fmt: skip
    for radius in wanted:
        for _ in range(30):
            x, y = dice.between(0.08, 0.92), dice.between(0.10, 0.90)
            apart = (math.hypot(x - a, (y - b) / aspect) > 0.92 * (radius + r) for a, b, r in placed)
            if all(apart):
                placed.append((x, y, radius))
                break
    for number, (x, y, radius) in enumerate(placed):
        _orb(canvas, palette, dice, x, y, radius, palette.accents[number % 4])
    return canvas


def _orb(canvas: Image.Image, palette: Palette, dice: Dice, x: float, y: float, radius: float, colour: RGB) -> None:
    """A ball lit from the upper left, its shadow falling to the lower right."""
    aspect = canvas.size[0] / canvas.size[1]
    dark = mixed(darker(colour, 0.5), palette.near, 0.25)
    brushes.glow(
        canvas,
        x + radius * 0.30,
        y + radius * 0.42 * aspect,
        radius * 1.5,
        mixed(palette.near, dark, 0.3),
        0.6,
        1.3,
    )
    ball = Image.new("RGB", (112, 112), dark)
    brushes.glow(ball, 0.46, 0.44, 0.62, colour, 1.0, 1.0)
    brushes.glow(ball, 0.36, 0.32, 0.44, lighter(colour, 0.5), 0.85, 1.5)
    brushes.glow(ball, 0.76, 0.80, 0.30, lighter(palette.accents[1], 0.3), 0.5, 1.6)
    brushes.glow(ball, 0.33, 0.27, 0.13, palette.light, 0.9, 1.4)
    brushes.disc(canvas, x, y, radius, ball)


def paper(size: Size, palette: Palette, dice: Dice) -> Image.Image:
    canvas = brushes.gradient(size, [palette.sky[3], mixed(palette.sky[3], palette.sky[2], 0.7)])
    sun_x, sun_y, radius = dice.between(0.25, 0.75), dice.between(0.20, 0.34), dice.between(0.11, 0.17)
    for ring in (1.75, 1.36):
        brushes.disc(canvas, sun_x, sun_y, radius * ring, mixed(palette.sky[3], palette.light, 0.9 - ring * 0.32))
    brushes.disc(canvas, sun_x, sun_y, radius, mixed(palette.accents[1], palette.light, 0.35))
    layers = dice.whole(5, 7)
    ramp = [mixed(palette.sky[2], palette.light, 0.15), palette.accents[0], palette.accents[2],
            mixed(palette.accents[2], palette.near, 0.5), palette.near]  # fmt: skip
    for layer in range(layers):
        share = layer / (layers - 1) * (len(ramp) - 1)
        left = min(int(share), len(ramp) - 2)
        colour = mixed(ramp[left], ramp[left + 1], share - left)
        crest = brushes.hills(dice, 0.40 + 0.50 * layer / (layers - 1), 0.085, waves=2)
        stops = [lighter(colour, 0.14), colour, darker(colour, 0.10), darker(colour, 0.18)]
        brushes.shape_below(canvas, crest, stops, shadow=0.46)
    return canvas


def blossoms(size: Size, palette: Palette, dice: Dice) -> Image.Image:
    canvas = field(size, palette, dice, softness=0.55)
    width, height = size
    for _ in range(5):
        brushes.glow(canvas, dice.unit(), dice.unit(), dice.between(0.08, 0.18), palette.light, 0.22, 0.8)
    spots = [(dice.between(0.08, 0.92), dice.between(0.08, 0.92), dice.between(0.09, 0.15)) for _ in range(5)]
    spots += [(dice.between(0.36, 0.64), dice.between(0.36, 0.60), dice.between(0.24, 0.30))]
    for number, (x, y, radius) in enumerate(spots):
        colour = palette.accents[number % 3]
        _blossom(canvas, palette, dice, x * width, y * height, radius * width, colour)
    return canvas


def _blossom(canvas: Image.Image, palette: Palette, dice: Dice, x: float, y: float, radius: float, colour: RGB) -> None:
    """Rings of petals, from the outer and deep ones to the inner and light ones."""
    width, height = canvas.size
    petals, start = dice.whole(6, 9), dice.between(0, 6.3)
    brushes.glow(
        canvas,
        x / width,
        (y + radius * 0.14) / height,
        radius / width * 1.25,
        darker(palette.near, 0.2),
        0.75,
        1.1,
    )
    for ring in range(3):
        reach = radius * (1 - 0.27 * ring)
        side = math.ceil(reach) * 2 + 4
        corner = (round(x - side / 2), round(y - side / 2))
        deep = darker(colour, 0.38 - 0.10 * ring)
        for layer in range(2):
            mask = Image.new("L", (side * 2, side * 2))
            draw = ImageDraw.Draw(mask)
            for petal in range(petals):
                angle = start + (petal + 0.5 * layer) * 2 * math.pi / petals
                draw.polygon(_petal(side, angle, reach * 2, 2.0 * reach * (2.4 / petals)), fill=255)
            tip = lighter(colour, 0.08 + 0.20 * ring + 0.10 * layer)
            shape = mask.reduce(2)
            if layer == 0:  # only the tips of these are seen
                canvas.paste(tip, corner, shape)
                continue
            fill = Image.new("RGB", (48, 48), tip)
            brushes.glow(fill, 0.5, 0.5, 0.52, deep, 1.0, 0.9)
            canvas.paste(fill.resize((side, side), Image.Resampling.BILINEAR), corner, shape)
        start += math.pi / petals * 0.6
    heart = radius / width * 0.17
    brushes.disc(canvas, x / width, y / height, heart, darker(colour, 0.45))
    brushes.disc(canvas, x / width, y / height, heart * 0.78, mixed(palette.accents[1], palette.light, 0.35))


def _petal_outline() -> list[tuple[float, float]]:
    """A leaf of length 1 and half breadth 1 from its foot to its tip, widest at two thirds."""
    half = [(step / 12, math.sin(math.pi * (step / 12) ** 1.35) ** 0.8 if 0 < step < 12 else 0.0) for step in range(13)]
    return half + [(forward, -side) for forward, side in reversed(half[1:-1])]


_PETAL = _petal_outline()


def _petal(centre: float, angle: float, length: float, breadth: float) -> list[tuple[float, float]]:
    along, across = length * math.cos(angle), length * math.sin(angle)
    left, up = breadth * math.sin(angle), breadth * math.cos(angle)
    return [(centre + f * along - s * left, centre + f * across + s * up) for f, s in _PETAL]
