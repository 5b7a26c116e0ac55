"""Moods: a sky from zenith to horizon, its light, land from far to near, and accents that go with them."""

from __future__ import annotations

from dataclasses import dataclass

from devstack.emulator.drawing.colour import LCH, RGB, rgb_of, turned


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one picture, ready to draw with."""

    mood: str
    sky: tuple[RGB, RGB, RGB, RGB]
    light: RGB
    far: RGB
    near: RGB
    accents: tuple[RGB, RGB, RGB, RGB]
    dark: bool


@dataclass(frozen=True, slots=True)
class Mood:
    """A palette before its hues are turned: every colour in OKLCH."""

    sky: tuple[LCH, LCH, LCH, LCH]
    light: LCH
    far: LCH
    near: LCH
    accents: tuple[LCH, LCH, LCH, LCH]
    dark: bool = False


MOODS: dict[str, Mood] = {
    "dawn": Mood(
        ((0.58, 0.09, 275), (0.73, 0.10, 340), (0.86, 0.09, 45), (0.94, 0.07, 80)),
        (0.98, 0.05, 95), (0.74, 0.08, 350), (0.32, 0.07, 290),
        ((0.70, 0.14, 20), (0.84, 0.11, 70), (0.60, 0.11, 300), (0.90, 0.05, 60)),
    ),
    "dusk": Mood(
        ((0.28, 0.10, 285), (0.46, 0.14, 325), (0.68, 0.16, 30), (0.86, 0.13, 75)),
        (0.96, 0.09, 90), (0.56, 0.13, 350), (0.19, 0.06, 295),
        ((0.66, 0.19, 30), (0.80, 0.15, 70), (0.50, 0.15, 320), (0.36, 0.11, 285)),
    ),
    "noon": Mood(
        ((0.60, 0.12, 248), (0.76, 0.09, 232), (0.90, 0.05, 215), (0.97, 0.02, 110)),
        (0.99, 0.04, 100), (0.78, 0.06, 225), (0.36, 0.08, 200),
        ((0.70, 0.13, 235), (0.85, 0.12, 90), (0.62, 0.11, 180), (0.93, 0.03, 215)),
    ),
    "forest": Mood(
        ((0.66, 0.06, 205), (0.80, 0.06, 175), (0.91, 0.06, 125), (0.96, 0.05, 105)),
        (0.98, 0.06, 105), (0.76, 0.06, 165), (0.24, 0.05, 168),
        ((0.55, 0.11, 150), (0.78, 0.11, 125), (0.42, 0.07, 190), (0.87, 0.11, 95)),
    ),
    "night": Mood(
        ((0.15, 0.05, 275), (0.23, 0.08, 276), (0.35, 0.10, 268), (0.52, 0.10, 245)),
        (0.95, 0.04, 95), (0.36, 0.08, 262), (0.11, 0.03, 270),
        ((0.55, 0.13, 265), (0.72, 0.12, 200), (0.45, 0.14, 305), (0.88, 0.08, 90)), dark=True,
    ),
    "desert": Mood(
        ((0.70, 0.07, 225), (0.84, 0.05, 110), (0.91, 0.07, 80), (0.90, 0.09, 65)),
        (0.98, 0.06, 90), (0.80, 0.10, 62), (0.40, 0.11, 38),
        ((0.68, 0.14, 50), (0.85, 0.10, 80), (0.55, 0.13, 32), (0.62, 0.07, 215)),
    ),
    "rose": Mood(
        ((0.76, 0.08, 320), (0.85, 0.08, 355), (0.92, 0.06, 35), (0.97, 0.03, 80)),
        (0.99, 0.03, 85), (0.82, 0.08, 5), (0.44, 0.13, 358),
        ((0.72, 0.15, 5), (0.88, 0.08, 50), (0.62, 0.14, 340), (0.94, 0.04, 20)),
    ),
    "lagoon": Mood(
        ((0.52, 0.10, 228), (0.69, 0.11, 208), (0.85, 0.09, 188), (0.95, 0.05, 150)),
        (0.99, 0.05, 110), (0.72, 0.09, 205), (0.27, 0.07, 228),
        ((0.68, 0.13, 195), (0.86, 0.10, 170), (0.80, 0.13, 55), (0.50, 0.11, 232)),
    ),
    "ember": Mood(
        ((0.20, 0.06, 15), (0.38, 0.13, 22), (0.62, 0.18, 42), (0.83, 0.15, 78)),
        (0.97, 0.10, 95), (0.48, 0.15, 28), (0.14, 0.04, 20),
        ((0.62, 0.20, 35), (0.80, 0.16, 75), (0.45, 0.16, 20), (0.70, 0.09, 350)), dark=True,
    ),
    "lilac": Mood(
        ((0.52, 0.13, 295), (0.68, 0.12, 308), (0.83, 0.08, 325), (0.93, 0.05, 20)),
        (0.98, 0.04, 80), (0.70, 0.11, 305), (0.27, 0.09, 290),
        ((0.66, 0.15, 300), (0.82, 0.10, 340), (0.86, 0.10, 75), (0.50, 0.14, 285)),
    ),
    "mist": Mood(
        ((0.72, 0.03, 240), (0.82, 0.03, 230), (0.90, 0.02, 100), (0.95, 0.02, 90)),
        (0.99, 0.02, 90), (0.82, 0.025, 235), (0.33, 0.04, 245),
        ((0.66, 0.05, 240), (0.83, 0.08, 70), (0.52, 0.05, 220), (0.90, 0.02, 90)),
    ),
    "aurora": Mood(
        ((0.14, 0.04, 265), (0.21, 0.06, 255), (0.30, 0.08, 230), (0.42, 0.09, 200)),
        (0.93, 0.05, 170), (0.26, 0.06, 235), (0.09, 0.025, 255),
        ((0.80, 0.19, 158), (0.72, 0.14, 190), (0.62, 0.18, 305), (0.86, 0.16, 130)), dark=True,
    ),
}  # fmt: skip


def palette_of(mood: str, turn: float = 0.0) -> Palette:
    """The mood's colours with every hue turned by `turn` degrees (a little keeps the mood, much makes another)."""
    chosen = MOODS[mood]

    def shown(colour: LCH) -> RGB:
        return rgb_of(turned(colour, turn))

    first, second, third, fourth = (shown(colour) for colour in chosen.sky)
    one, two, three, four = (shown(colour) for colour in chosen.accents)
    return Palette(
        mood=mood,
        sky=(first, second, third, fourth),
        light=shown(chosen.light),
        far=shown(chosen.far),
        near=shown(chosen.near),
        accents=(one, two, three, four),
        dark=chosen.dark,
    )
