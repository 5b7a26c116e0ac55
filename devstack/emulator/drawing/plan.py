"""What to draw, decided from the prompt alone: pure, the same for the same words, seed and place in the set."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from devstack.emulator.drawing.palettes import MOODS

SCENES = ("ridges", "dunes", "sea", "orbs", "aurora", "paper", "blossoms", "portrait")
_FREE_SCENES = ("ridges", "dunes", "sea", "orbs", "paper", "blossoms")

# A word in the prompt leads to a fitting scene or mood; the first that matches wins.
_SCENE_WORDS = (
    (
        "portrait",
        "portrait portraits selfie headshot face woman man girl boy person people model stylist fashion style",
    ),
    ("portrait", "outfit dress suit coat shirt jacket hair look smile"),
    ("aurora", "aurora northern polar galaxy cosmic"),
    ("sea", "sea ocean beach coast lake water sail island surf lagoon harbour"),
    ("dunes", "desert dune dunes sand sahara canyon"),
    ("ridges", "mountain mountains hill hills valley alps landscape forest peak fog foggy misty"),
    ("blossoms", "flower flowers blossom blossoms garden spring floral petal petals rose roses"),
    ("orbs", "abstract bubble bubbles sphere spheres glass planet planets"),
    ("paper", "paper layers minimal pattern poster wave waves"),
)
_MOOD_WORDS = (
    ("night", "night midnight moon moonlit moonlight star stars starry"),
    ("aurora", "aurora northern polar"),
    ("dusk", "dusk sunset evening golden"),
    ("dawn", "dawn sunrise morning first"),
    ("rose", "rose roses pink blossom romantic wedding"),
    ("ember", "fire ember volcano candle autumn red"),
    ("desert", "desert dune dunes sand sahara canyon"),
    ("forest", "forest jungle green spring garden"),
    ("lagoon", "tropical lagoon beach island surf"),
    ("noon", "noon summer sky sunny blue"),
    ("lilac", "lilac lavender violet purple"),
    ("mist", "mist misty fog foggy studio minimal winter snow editorial"),
)
_RATIO = re.compile(r"^(\d{1,2}):(\d{1,2})$")


@dataclass(frozen=True, slots=True)
class PicturePlan:
    """One picture: its scene and mood, the hue turn in degrees, its size in pixels and the seed of its details."""

    scene: str
    mood: str
    turn: float
    width: int
    height: int
    detail_seed: int


class Dice:
    """Endless numbers from one seed, the same on every machine and Python version."""

    def __init__(self, seed: int) -> None:
        self._state = seed & 0xFFFFFFFFFFFFFFFF

    def unit(self) -> float:
        """The next number in 0..1 (splitmix64)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return low + int(self.unit() * (high - low + 1))


def size_of(aspect_ratio: str, long_side_px: int) -> tuple[int, int]:
    """Width and height in pixels, both even. Raises ValueError unless it reads like `4:5`, at most 4 to 1."""
    match = _RATIO.match(aspect_ratio)
    wide, high = (int(match[1]), int(match[2])) if match else (0, 0)
    if not wide or not high or max(wide, high) > 4 * min(wide, high):
        raise ValueError(f"aspect_ratio {aspect_ratio!r} must be like 1:1, 4:5 or 16:9")
    longest = max(wide, high)
    return (round(long_side_px * wide / longest / 2) * 2, round(long_side_px * high / longest / 2) * 2)


def plan_picture(prompt: str, seed: int, output_index: int, size_px: tuple[int, int]) -> PicturePlan:
    """The outputs of one set share scene and mood and differ in their details."""
    words = re.findall(r"[a-z]+", prompt.lower())
    of_set = Dice(_hash_of(prompt, seed))
    scene = _led_by(words, _SCENE_WORDS) or _FREE_SCENES[of_set.whole(0, len(_FREE_SCENES) - 1)]
    moods = tuple(mood for mood in MOODS if mood != "aurora")
    mood = _led_by(words, _MOOD_WORDS) or moods[of_set.whole(0, len(moods) - 1)]
    if scene == "aurora":
        mood = "aurora"
    return PicturePlan(
        scene=scene,
        mood=mood,
        turn=of_set.between(-14.0, 14.0),
        width=size_px[0],
        height=size_px[1],
        detail_seed=_hash_of(prompt, seed, output_index),
    )


def _led_by(words: list[str], table: tuple[tuple[str, str], ...]) -> str | None:
    present = set(words)
    return next((name for name, leading in table if present & set(leading.split())), None)


def _hash_of(*parts: object) -> int:
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def folded(plan: PicturePlan, distinct: int) -> PicturePlan:
    """One of `distinct` plans of the same size: drawing few pictures makes room for measuring other things."""
    number = plan.detail_seed % distinct
    return plan_picture(f"picture {number}", 0, number, (plan.width, plan.height))
