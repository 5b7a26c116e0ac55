from __future__ import annotations

import io

import pytest
from PIL import Image

from devstack.contact_sheet import PICTURES_MAX, draw_contact_sheet
from devstack.emulator.drawing.draw import draw_picture, jpeg_of
from devstack.emulator.drawing.plan import PicturePlan


def picture(seed: int, size: tuple[int, int] = (204, 256)) -> bytes:
    return jpeg_of(draw_picture(PicturePlan("ridges", "dawn", 0.0, *size, seed)))


def sheet_of(*pictures: tuple[bytes, str], columns: int = 4) -> Image.Image:
    content = draw_contact_sheet(pictures, columns)
    sheet = Image.open(io.BytesIO(content))
    assert sheet.format == "PNG"
    sheet.load()
    return sheet


def test_pictures_fill_rows_of_so_many_columns() -> None:
    three = sheet_of(*[(picture(seed), "a hill\nmara") for seed in range(3)], columns=3)
    six = sheet_of(*[(picture(seed), "a hill\nmara") for seed in range(6)], columns=3)
    two = sheet_of(*[(picture(seed), "a hill\nmara") for seed in range(2)], columns=3)
    assert three.width == six.width > two.width
    assert three.height == two.height
    assert six.height > 1.8 * three.height


def test_corners_are_round_and_the_paper_is_quiet() -> None:
    sheet = sheet_of((picture(1), "a hill"))
    paper = sheet.getpixel((2, 2))
    margin = 51
    corner, inside = sheet.getpixel((margin, margin)), sheet.getpixel((margin + 40, margin + 40))
    assert max(abs(a - b) for a, b in zip(paper, corner, strict=True)) < 40  # type: ignore[arg-type]
    assert max(abs(a - b) for a, b in zip(paper, inside, strict=True)) > 40  # type: ignore[arg-type]


def test_captions_are_drawn_and_long_ones_cut() -> None:
    none = sheet_of((picture(1), ""))
    short, long = sheet_of((picture(1), "a hill")), sheet_of((picture(1), "a hill and " * 60))
    assert none.size == short.size == long.size
    assert none.tobytes() != short.tobytes() != long.tobytes()


def test_bytes_that_are_no_picture_become_an_empty_tile() -> None:
    good = picture(1)
    sheet = sheet_of((good, "a"), (b"not a picture", "b"), (good[:300], "c"))
    assert sheet.width > 900


def test_many_pictures_stay_within_the_bound() -> None:
    one = picture(1)
    sheet = sheet_of(*[(one, f"hill {number}") for number in range(PICTURES_MAX + 40)], columns=3)
    assert max(sheet.size) <= 4096


def test_an_empty_sheet_says_so_and_bad_columns_are_refused() -> None:
    assert sheet_of().width >= 280
    with pytest.raises(ValueError, match="columns"):
        draw_contact_sheet([], 0)
