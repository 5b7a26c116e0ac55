"""From a plan to the bytes of a picture. Runs in a worker thread: Pillow lets go of the interpreter lock."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image

from devstack.emulator.drawing import brushes, land, still
from devstack.emulator.drawing.palettes import Palette, palette_of
from devstack.emulator.drawing.plan import Dice, PicturePlan
from devstack.emulator.drawing.portrait import portrait

_SCENES: dict[str, Callable[[tuple[int, int], Palette, Dice], Image.Image]] = {
    "ridges": land.ridges,
    "dunes": land.dunes,
    "sea": land.sea,
    "aurora": land.aurora,
    "orbs": still.orbs,
    "paper": still.paper,
    "blossoms": still.blossoms,
    "portrait": portrait,
}


def draw_picture(plan: PicturePlan) -> Image.Image:
    """The picture of a plan, RGB, exactly `plan.width` by `plan.height` pixels."""
    palette = palette_of(plan.mood, plan.turn)
    canvas = _SCENES[plan.scene]((plan.width, plan.height), palette, Dice(plan.detail_seed))
    brushes.vignette(canvas, 0.30)
    return canvas


def jpeg_of(picture: Image.Image, quality: int = 86) -> bytes:
    """The picture as baseline JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
