"""Pictures: the same everywhere, of the right size, and pictures rather than noise."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from PIL import Image, ImageChops, ImageStat

from devstack.emulator.drawing.colour import darker, lighter, mixed, rgb_of
from devstack.emulator.drawing.draw import draw_picture, jpeg_of
from devstack.emulator.drawing.palettes import MOODS, palette_of
from devstack.emulator.drawing.plan import SCENES, Dice, PicturePlan, folded, plan_picture, size_of
from devstack.emulator.spoiling import claimed_huge, corrupted, stamped


def plan(scene: str, mood: str = "dusk", seed: int = 5, size: tuple[int, int] = (240, 300)) -> PicturePlan:
    return PicturePlan(scene, mood, 0.0, *size, seed)


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_is_drawn_the_same_again_and_differs_with_its_seed(scene: str) -> None:
    first = draw_picture(plan(scene))
    assert first.size == (240, 300)
    assert first.mode == "RGB"
    assert first.tobytes() == draw_picture(plan(scene)).tobytes()
    assert first.tobytes() != draw_picture(plan(scene, seed=6)).tobytes()


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("size", [(64, 64), (300, 76), (76, 300)])
def test_every_scene_fits_any_shape(scene: str, size: tuple[int, int]) -> None:
    for seed in range(3):
        assert draw_picture(plan(scene, seed=seed, size=size)).size == size


@pytest.mark.parametrize("scene", SCENES)
def test_a_picture_of_any_mood_has_contrast_and_is_smooth(scene: str) -> None:
    for mood in MOODS:
        picture = draw_picture(plan(scene, mood, size=(160, 200)))
        assert max(ImageStat.Stat(picture).stddev) > 12, f"{mood} is flat"
        beside = ImageChops.difference(picture, ImageChops.offset(picture, 1, 0)).crop((1, 0, 160, 200))
        assert max(ImageStat.Stat(beside).mean) < 11, f"{mood} is noisy"


def test_words_lead_to_a_fitting_scene_and_mood() -> None:
    for prompt, scene, mood in (
        ("Portrait of a woman at midnight", "portrait", "night"),
        ("a beach at sunset", "sea", "dusk"),
        ("northern lights", "aurora", "aurora"),
        ("rose petals", "blossoms", "rose"),
    ):
        found = plan_picture(prompt, 0, 0, (64, 64))
        assert (found.scene, found.mood) == (scene, mood), prompt


def test_prompts_without_such_words_are_spread_over_scenes_and_moods() -> None:
    plans = [plan_picture(f"xyz {number}", 0, 0, (64, 64)) for number in range(200)]
    assert len({found.scene for found in plans}) == 6
    assert len({found.mood for found in plans}) == len(MOODS) - 1


def test_a_set_shares_its_scene_and_differs_in_detail() -> None:
    plans = [plan_picture("xyz", 1, index, (64, 64)) for index in range(4)]
    assert len({(found.scene, found.mood, found.turn) for found in plans}) == 1
    assert len({found.detail_seed for found in plans}) == 4


def test_folding_leaves_few_pictures_of_the_same_size() -> None:
    plans = {folded(plan_picture(f"xyz {number}", 0, 0, (64, 80)), 5) for number in range(200)}
    assert len(plans) == 5
    assert {(found.width, found.height) for found in plans} == {(64, 80)}


@pytest.mark.parametrize(("ratio", "size"), [("1:1", (768, 768)), ("4:5", (614, 768)), ("16:9", (768, 432))])
def test_the_long_side_is_as_asked_and_both_are_even(ratio: str, size: tuple[int, int]) -> None:
    assert size_of(ratio, 768) == size


@pytest.mark.parametrize("ratio", ["", "1", "0:1", "1:0", "9:1", "1:5", "a:b", "4:5 ", "-4:5"])
def test_other_aspect_ratios_are_refused(ratio: str) -> None:
    with pytest.raises(ValueError, match="aspect_ratio"):
        size_of(ratio, 768)


def test_the_dice_are_the_same_on_every_machine() -> None:
    dice = Dice(42)
    assert [round(dice.unit(), 6) for _ in range(3)] == [0.741565, 0.15991, 0.278601]
    numbers = [Dice(seed).whole(1, 6) for seed in range(600)]
    assert set(numbers) == {1, 2, 3, 4, 5, 6}


def test_colours_are_what_they_should_be() -> None:
    assert rgb_of((1.0, 0.0, 0.0)) == (255, 255, 255)
    assert rgb_of((0.628, 0.2577, 29.23)) == pytest.approx((255, 0, 0), abs=2)
    assert mixed((10, 200, 30), (200, 20, 90), 0.0) == pytest.approx((10, 200, 30), abs=2)
    assert mixed((10, 200, 30), (200, 20, 90), 1.0) == pytest.approx((200, 20, 90), abs=2)
    assert sum(darker((90, 120, 150), 0.3)) < 360 < sum(lighter((90, 120, 150), 0.3))


def test_a_sky_gets_lighter_towards_the_horizon() -> None:
    for mood in MOODS:
        sky = palette_of(mood).sky
        assert all(sum(above) < sum(below) + 40 for above, below in pairwise(sky)), mood


def test_a_spoiled_picture_is_spoiled_as_promised() -> None:
    jpeg = jpeg_of(draw_picture(plan("ridges")))
    same = Image.open(io.BytesIO(stamped(jpeg, "a stamp")))
    assert same.tobytes() == Image.open(io.BytesIO(jpeg)).tobytes()
    assert stamped(jpeg, "a") != stamped(jpeg, "b")
    assert len(corrupted(jpeg)) < len(jpeg)
    assert len(claimed_huge(jpeg)) == len(jpeg)
    with pytest.raises(ValueError, match="JPEG"):
        claimed_huge(b"not a picture at all")
