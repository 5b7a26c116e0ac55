"""Scenes with a horizon: ridges in mist, dunes, the sea, the northern lights."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFilter

from devstack.emulator.drawing import brushes
from devstack.emulator.drawing.colour import RGB, mixed
from devstack.emulator.drawing.palettes import Palette
from devstack.emulator.drawing.plan import Dice

Size = tuple[int, int]


def _sky(size: Size, palette: Palette, horizon: float) -> Image.Image:
    """The whole canvas, its sky reaching the colour of the horizon at `horizon`."""
    sky = brushes.gradient((size[0], max(2, round(size[1] * horizon))), palette.sky)
    canvas = Image.new("RGB", size, palette.sky[3])
    canvas.paste(sky)
    return canvas


def _sun(canvas: Image.Image, palette: Palette, x: float, y: float, radius: float) -> None:
    warm = mixed(palette.light, palette.sky[2], 0.25)
    brushes.glow(canvas, x, y, radius * 7, warm, 0.42 if not palette.dark else 0.30, 2.2)
    brushes.glow(canvas, x, y, radius * 2.6, palette.light, 0.55, 2.0)
    brushes.disc(canvas, x, y, radius, palette.light)


def ridges(size: Size, palette: Palette, dice: Dice) -> Image.Image:
    horizon = dice.between(0.56, 0.68)
    canvas = _sky(size, palette, horizon)
    if palette.dark:
        brushes.stars(canvas, dice, 130, palette.light, horizon * 0.9)
    _sun(
        canvas,
        palette,
        dice.between(0.22, 0.78),
        horizon - dice.between(0.14, 0.34),
        dice.between(0.045, 0.085),
    )
    layers = dice.whole(5, 6)
    for layer in range(layers):
        depth = layer / (layers - 1)
        base = horizon - 0.03 + (1.02 - horizon) * depth**1.25 * 0.86
        colour = mixed(palette.far, palette.near, depth**0.9)
        haze = mixed(colour, palette.sky[3], 0.55 * (1 - depth) + 0.12)
        crest = (
            brushes.peaks(dice, base, 0.105 - 0.035 * depth) if layer < layers - 2 else brushes.hills(dice, base, 0.055)
        )
        brushes.shape_below(canvas, crest, [colour, mixed(colour, haze, 0.6), haze])
        if layer < layers - 1:
            brushes.veil(canvas, base + 0.10, 0.10, palette.sky[3], 0.30 * (1 - depth))
    return canvas


def dunes(size: Size, palette: Palette, dice: Dice) -> Image.Image:
    horizon = dice.between(0.46, 0.58)
    canvas = _sky(size, palette, horizon + 0.06)
    if palette.dark:
        brushes.stars(canvas, dice, 160, palette.light, horizon)
    sun_x = dice.between(0.2, 0.8)
    _sun(canvas, palette, sun_x, horizon - dice.between(0.16, 0.30), dice.between(0.05, 0.095))
    layers = dice.whole(4, 5)
    for layer in range(layers):
        depth = layer / (layers - 1)
        base = horizon + (0.95 - horizon) * depth**1.15
        sand = mixed(palette.far, palette.near, depth * 0.72)
        lit, shade = mixed(sand, palette.sky[3], 0.36 - 0.16 * depth), mixed(sand, palette.near, 0.42)
        crest = brushes.hills(dice, base, 0.10 - 0.02 * depth, waves=2)
        brushes.shape_below(canvas, crest, [lit, sand, mixed(sand, shade, 0.4), mixed(sand, shade, 0.6)])
        _lee_side(canvas, crest, dice, shade)
    brushes.veil(canvas, horizon + 0.02, 0.12, palette.sky[3], 0.22)
    return canvas


def _lee_side(canvas: Image.Image, crest: brushes.Curve, dice: Dice, shade: RGB) -> None:
    """The side away from the light: a sickle that hangs from a stretch of the crest."""
    width, height = canvas.size
    start, reach = dice.between(-0.15, 0.55), dice.between(0.40, 0.75)
    fall, early = dice.between(0.07, 0.17), dice.between(0.45, 0.75)
    stretch = [(step / 48, start + reach * step / 48) for step in range(49)]
    top = [(x * width, crest(x) * height) for _, x in stretch]
    foot = [
        (x * width, (crest(x) + fall * math.sin(math.pi * share**early) ** 1.5) * height)
        for share, x in reversed(stretch)
    ]
    above = max(0, math.floor(min(y for _, y in top)))
    below = min(height, math.ceil(max(y for _, y in foot)) + 1)
    if below <= above:
        return
    mask = Image.new("L", (width * 2, (below - above) * 2))
    ImageDraw.Draw(mask).polygon([(2 * x, 2 * (y - above)) for x, y in [*top, *foot]], fill=165)
    canvas.paste(shade, (0, above), mask.reduce(2))


def sea(size: Size, palette: Palette, dice: Dice) -> Image.Image:
    width, height = size
    horizon = dice.between(0.46, 0.60)
    canvas = _sky(size, palette, horizon)
    if palette.dark:
        brushes.stars(canvas, dice, 150, palette.light, horizon * 0.85)
    sun_x, radius = dice.between(0.28, 0.72), dice.between(0.06, 0.11)
    _sun(canvas, palette, sun_x, horizon - dice.between(0.02, 0.24), radius)
    for _ in range(dice.whole(3, 5)):
        _cloud(canvas, dice, dice.between(0.12, horizon - 0.05), mixed(palette.sky[3], palette.light, 0.4))
    if dice.unit() < 0.6:
        land = mixed(palette.far, palette.sky[3], 0.15)
        brushes.shape_below(canvas, brushes.hills(dice, horizon - 0.004, 0.034), [land, land])
    top = round(horizon * height)
    deep = mixed(palette.near, palette.far, 0.18)
    shallow = mixed(palette.far, palette.sky[2], 0.45)
    canvas.paste(brushes.gradient((width, height - top), [shallow, palette.far, deep]), (0, top))
    for layer in range(7):
        depth = (layer + 1) / 7
        base = horizon + (1 - horizon) * (0.06 + 0.90 * depth**1.5)
        colour = mixed(shallow, deep, depth**0.8)
        crest = brushes.hills(dice, base, 0.002 + 0.014 * depth)
        crests = [mixed(colour, palette.sky[2], 0.30 * (1 - 0.5 * depth)), colour, mixed(colour, deep, 0.5)]
        brushes.shape_below(canvas, crest, crests)
    _glitter(canvas, palette, dice, sun_x, radius, top)
    return canvas


def _cloud(canvas: Image.Image, dice: Dice, y: float, colour: RGB) -> None:
    """A long flat cloud of a few overlapping streaks."""
    width, height = canvas.size
    x, long = dice.between(0.0, 1.0) * width, dice.between(0.18, 0.42) * width
    thick = max(3, round(height * dice.between(0.010, 0.020)))
    small = Image.new("L", (max(4, round(long / 4)), thick * 2))
    draw = ImageDraw.Draw(small)
    for _ in range(4):
        left, level = dice.between(0.0, 0.4) * small.width, dice.between(0.25, 0.75) * small.height
        right = left + dice.between(0.35, 0.6) * small.width
        draw.ellipse((left, level - thick / 5, right, level + thick / 5), fill=130)
    mask = small.filter(ImageFilter.GaussianBlur(thick / 4)).resize((round(long), thick * 2))
    canvas.paste(colour, (round(x - long / 2), round(y * height) - thick), mask)


def _glitter(canvas: Image.Image, palette: Palette, dice: Dice, sun_x: float, radius: float, top: int) -> None:
    """The sun's path on the water: flat dashes that widen and thin out towards us."""
    width, height = canvas.size
    mask = Image.new("L", (width, height - top))
    draw = ImageDraw.Draw(mask)
    for _ in range(120):
        depth = dice.unit() ** 1.4
        y = depth * (height - top)
        spread = radius * (0.9 + 2.2 * depth)
        x = (sun_x + (dice.unit() + dice.unit() - 1) * spread) * width
        half, thick = width * dice.between(0.012, 0.045) * (0.4 + depth), 0.5 + 2.4 * depth * height / 768
        draw.ellipse((x - half, y - thick, x + half, y + thick), fill=round(210 * (1 - 0.75 * depth)))
    canvas.paste(palette.light, (0, top), mask.filter(ImageFilter.GaussianBlur(width / 800)))


def aurora(size: Size, palette: Palette, dice: Dice) -> Image.Image:
    small = (max(8, size[0] // 6), max(8, size[1] // 6))
    sky = _sky(small, palette, 0.8)
    for ribbon in range(dice.whole(3, 4)):
        sky.paste(palette.accents[ribbon % 4], (0, 0), _curtain(small, dice))
    canvas = sky.resize(size, Image.Resampling.BICUBIC)
    brushes.stars(canvas, dice, 220, palette.light, 0.75)
    for layer in range(3):
        depth = layer / 2
        colour = mixed(palette.far, palette.near, depth)
        crest = brushes.peaks(dice, 0.76 + 0.08 * layer, 0.06) if layer < 2 else brushes.hills(dice, 0.92, 0.03)
        brushes.shape_below(canvas, crest, [mixed(colour, palette.accents[0], 0.10 * (1 - depth)), colour])
    return canvas


def _curtain(size: Size, dice: Dice) -> Image.Image:
    """One ribbon of light as a mask: a bright waving foot, rays that fade upwards."""
    width, height = size
    crest = brushes.hills(dice, dice.between(0.42, 0.62), 0.12)
    sway, speed = dice.between(0, 6.3), dice.between(8, 17)
    curtain = Image.new("L", size)
    draw = ImageDraw.Draw(curtain)
    for x in range(width):
        share = x / width
        foot = crest(share) * height
        tall = height * (0.30 + 0.10 * math.sin(speed * share + sway))
        bright = 0.55 + 0.45 * math.sin(speed * 1.7 * share + 2 * sway)
        for part in range(7):
            low, high = foot - tall * part / 7, foot - tall * (part + 1) / 7
            draw.line((x, low, x, high), fill=round(165 * bright * (1 - part / 7) ** 1.6))
    return curtain.filter(ImageFilter.GaussianBlur(width / 80))
