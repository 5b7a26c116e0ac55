"""Sweeping: every folder has its turn, and a keeper knows what a sweep may have done to what it stored."""

from __future__ import annotations

import pytest

from models.pictures import FOLDERS, content_type_of_key
from models.sweeping import FLIGHT_S, FOLDER_COUNT, Crossing, SweepMark, folder_at, folder_of

SHA = "ab" + "0" * 62
HERE, ELSEWHERE = f"images/ab/{SHA}.jpg", f"images/ac/ac{SHA[2:]}.jpg"
POSITION = next(position for position in range(FOLDER_COUNT) if folder_at(position) == "images/ab")
STORED_S = 1000.0


def test_every_folder_that_can_hold_an_object_has_its_turn() -> None:
    folders = {folder_at(position) for position in range(FOLDER_COUNT)}
    assert len(folders) == FOLDER_COUNT
    for name, types in FOLDERS.items():
        for number in range(256):
            for extension in types.values():
                key = f"{name}/{number:02x}/{number:02x}{SHA[2:]}.{extension}"
                assert content_type_of_key(key) is not None
                assert folder_of(key) in folders
    assert folder_at(FOLDER_COUNT) == folder_at(0)


def mark(
    began_s: float | None, ended_s: float | None, *, is_alive: bool = False, now_s: float = STORED_S + 9
) -> SweepMark:
    return SweepMark(POSITION, began_s, ended_s, is_alive, now_s)


@pytest.mark.parametrize(
    ("seen", "key", "crossing"),
    [
        (mark(None, None), HERE, Crossing.NONE),
        (mark(STORED_S - 9, STORED_S - 8), HERE, Crossing.NONE),
        (mark(STORED_S - 9, STORED_S), HERE, Crossing.LOOK),
        (mark(STORED_S + 1, STORED_S + 2), HERE, Crossing.LOOK),
        # Since then another folder may have been swept: the mark names only the last.
        (mark(STORED_S + 1, STORED_S + 2), ELSEWHERE, Crossing.LOOK),
        (mark(STORED_S + 1, None, is_alive=True), HERE, Crossing.WAIT),
        (mark(STORED_S + 1, None, is_alive=True), ELSEWHERE, Crossing.NONE),
        (mark(STORED_S + 3, STORED_S + 2, is_alive=True), HERE, Crossing.WAIT),
        (mark(STORED_S + 3, STORED_S + 2, is_alive=True), ELSEWHERE, Crossing.LOOK),
        (mark(STORED_S + 3, STORED_S - 2, is_alive=True), ELSEWHERE, Crossing.NONE),
        # Whoever began it is paused, for however long.
        (mark(STORED_S, None, is_alive=True, now_s=STORED_S + 10 * FLIGHT_S), HERE, Crossing.WAIT),
        # Whoever began it is dead; what it sent has a time to arrive.
        (mark(STORED_S, None, now_s=STORED_S + FLIGHT_S - 1), HERE, Crossing.WAIT),
        (mark(STORED_S, None, now_s=STORED_S + FLIGHT_S), HERE, Crossing.LOOK),
        (mark(STORED_S - FLIGHT_S - 1, None), HERE, Crossing.NONE),
    ],
)
def test_a_keeper_waits_looks_or_goes_on(seen: SweepMark, key: str, crossing: Crossing) -> None:
    assert seen.crossing([key], STORED_S) is crossing
    assert seen.crossing([], STORED_S) in (Crossing.NONE, Crossing.LOOK)
