"""Colours in OKLCH, where equal steps look equal, so that palettes made by arithmetic stay harmonious."""

from __future__ import annotations

import math
from functools import lru_cache

RGB = tuple[int, int, int]
LCH = tuple[float, float, float]  # lightness 0..1, chroma 0..0.3, hue in degrees


def rgb_of(colour: LCH) -> RGB:
    """The sRGB colour; chroma is reduced until it can be shown."""
    lightness, chroma, hue = colour
    for _ in range(24):
        linear = _linear_of(lightness, chroma, hue)
        if all(-0.002 <= value <= 1.002 for value in linear):
            break
        chroma *= 0.92
    red, green, blue = (round(255 * _encoded(min(1.0, max(0.0, value)))) for value in linear)
    return red, green, blue


def turned(colour: LCH, hue: float, lightness: float = 0.0) -> LCH:
    """The same colour with its hue turned by `hue` degrees and its lightness moved."""
    return min(1.0, max(0.0, colour[0] + lightness)), colour[1], (colour[2] + hue) % 360


def mixed(first: RGB, second: RGB, share: float) -> RGB:
    """`share` 0 gives the first, 1 the second; in between as the eye sees it."""
    one, two = _oklab_of(first), _oklab_of(second)
    lightness, a, b = ((1 - share) * x + share * y for x, y in zip(one, two, strict=True))
    return rgb_of((lightness, math.hypot(a, b), math.degrees(math.atan2(b, a))))


def lighter(colour: RGB, share: float) -> RGB:
    """Towards white without losing its hue."""
    return _moved(colour, share)


def darker(colour: RGB, share: float) -> RGB:
    """Towards black without losing its hue."""
    return _moved(colour, -share)


def _moved(colour: RGB, share: float) -> RGB:
    lightness, a, b = _oklab_of(colour)
    chroma, hue = math.hypot(a, b), math.degrees(math.atan2(b, a))
    if share >= 0:
        return rgb_of((lightness + (1 - lightness) * share, chroma * (1 - 0.7 * share), hue))
    return rgb_of((lightness * (1 + share), chroma * (1 + 0.4 * share), hue))


@lru_cache(maxsize=512)
def _oklab_of(colour: RGB) -> tuple[float, float, float]:
    red, green, blue = (_decoded(value / 255) for value in colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _linear_of(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _encoded(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _decoded(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
