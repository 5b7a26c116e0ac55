"""A user's gallery: pages that neither repeat nor skip, favourites, deletions; nobody sees anybody else's."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from adapters.gallery import delete_output, read_page, set_favorite
from adapters.postgres import Pool
from adapters.queries import load_queries
from models.errors import WrongUse
from models.gallery_pages import PAGE_MAX, GalleryItem, GalleryQuery, Place, cursor_of, place_of

from .conftest import NOON, add_picture, add_video


async def page(pool: Pool, cursor: str | None = None, user_id: str = "ada", **asked: object) -> tuple[list[str], str]:
    """(ids of one page, the next cursor or nothing)."""
    after = None if cursor is None else place_of(cursor)
    found = await read_page(pool, GalleryQuery(user_id, after=after, **asked))  # type: ignore[arg-type]
    return [item.image_id for item in found.items], found.next_cursor or ""


async def everything(pool: Pool, limit: int, **asked: object) -> list[str]:
    """All pages' ids, in order."""
    seen, cursor = await page(pool, limit=limit, **asked)
    while cursor:
        ids, cursor = await page(pool, cursor, limit=limit, **asked)
        assert ids, "a cursor leads to something"
        seen += ids
    return seen


async def test_a_page_shows_pictures_and_videos_with_all_that_is_known(pool: Pool) -> None:
    await add_picture(pool, "p1-0")
    await add_video(pool, "p2-0", at=NOON + timedelta(seconds=1))
    video, picture = (await read_page(pool, GalleryQuery("ada"))).items
    sha256 = "ab" + "0" * 62
    assert picture == GalleryItem(
        image_id="p1-0",
        request_id="r-p1",
        operation="maya.image",
        source="maya_chat",
        prompt="a lake",
        url=f"http://p/images/ab/{sha256}.jpg",
        thumbnail_url=f"http://p/thumbnails/ab/{sha256}.webp",
        width=800,
        height=600,
        content_type="image/jpeg",
        bytes=99,
        is_favorite=False,
        created_at=NOON,
    )
    assert (video.image_id, video.content_type, video.thumbnail_url) == ("p2-0", "video/mp4", "")
    assert (video.width, video.height) == (0, 0)


async def test_the_newest_come_first_and_equally_new_ones_by_id(pool: Pool) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    rows = []
    for number in range(60):
        at = NOON + timedelta(microseconds=rng.randrange(8))
        name = f"p{number:03}-0"
        await (add_video if number % 4 == 0 else add_picture)(pool, name, at=at)
        rows.append((at, name))
    expected = [name for _, name in sorted(rows, reverse=True)]
    for limit in (1, 7, 60, PAGE_MAX):
        assert await everything(pool, limit) == expected


async def test_a_last_page_that_is_full_leads_nowhere(pool: Pool) -> None:
    for number in range(4):
        await add_picture(pool, f"p{number}-0")
    assert await page(pool, limit=4) == (["p3-0", "p2-0", "p1-0", "p0-0"], "")
    assert await page(pool, user_id="ben") == ([], "")


async def test_pages_neither_repeat_nor_skip_while_rows_come_and_go(pool: Pool) -> None:
    for number in range(9):
        await add_picture(pool, f"p{number}-0", at=NOON + timedelta(seconds=number))
    first, cursor = await page(pool, limit=3)
    assert first == ["p8-0", "p7-0", "p6-0"]
    await add_picture(pool, "new-0", at=NOON + timedelta(hours=1))
    # The place that the cursor names goes, and so does one ahead of it.
    for gone in ("p6-0", "p4-0"):
        assert await delete_output(pool, "ada", gone)
    second, cursor = await page(pool, cursor, limit=3)
    assert second == ["p5-0", "p3-0", "p2-0"]
    assert await page(pool, cursor, limit=3) == (["p1-0", "p0-0"], "")


async def test_a_page_can_be_of_one_operation_or_of_favourites(pool: Pool) -> None:
    for number in range(12):
        operation = ("maya.image", "studio.images", "feed.post")[number % 3]
        await add_picture(pool, f"p{number:02}-0", operation=operation, at=NOON + timedelta(seconds=number))
    await add_video(pool, "v-0", at=NOON + timedelta(hours=1))
    for name in ("p01-0", "p04-0", "p05-0", "v-0"):
        assert await set_favorite(pool, "ada", name) is True
    assert await everything(pool, 2, operation="studio.images") == ["p10-0", "p07-0", "p04-0", "p01-0"]
    assert await everything(pool, 2, operation="video.animation") == ["v-0"]
    assert await everything(pool, 2, favorites_only=True) == ["v-0", "p05-0", "p04-0", "p01-0"]
    assert await everything(pool, 2, favorites_only=True, operation="studio.images") == ["p04-0", "p01-0"]
    assert await everything(pool, 2, operation="feed.post", favorites_only=True) == ["p05-0"]


async def test_a_favourite_is_turned_on_and_off_or_set(pool: Pool) -> None:
    await add_picture(pool, "p-0")
    assert await set_favorite(pool, "ada", "p-0") is True
    assert await set_favorite(pool, "ada", "p-0") is False
    assert [await set_favorite(pool, "ada", "p-0", wanted) for wanted in (True, True, False)] == [True, True, False]
    for unknown in ("none-0", "", "p-0\0", "p-0' OR true"):
        assert await set_favorite(pool, "ada", unknown) is None
        assert not await delete_output(pool, "ada", unknown)


async def test_what_is_turned_at_once_from_two_sides_is_turned_twice(pool: Pool) -> None:
    await add_picture(pool, "p-0")
    turned = await asyncio.gather(*(set_favorite(pool, "ada", "p-0") for _ in range(8)))
    assert sorted(map(bool, turned)) == [False] * 4 + [True] * 4
    assert (await read_page(pool, GalleryQuery("ada"))).items[0].is_favorite is False


@pytest.mark.parametrize("add", [add_picture, add_video])
async def test_what_is_deleted_is_gone_and_leaves_a_trace_for_the_books(pool: Pool, add: object) -> None:
    await add(pool, "p-3")  # type: ignore[operator]
    assert await delete_output(pool, "ada", "p-3")
    assert not await delete_output(pool, "ada", "p-3")
    assert await page(pool) == ([], "")
    assert await set_favorite(pool, "ada", "p-3") is None
    traces = await pool.fetch("SELECT prediction_id, output_index, user_id, request_id FROM deleted_outputs")
    assert [tuple(row) for row in traces] == [("p", 3, "ada", "r-p")]


async def test_a_picture_deleted_from_two_sides_at_once_is_deleted_once(pool: Pool) -> None:
    await add_picture(pool, "p-0")
    assert sorted(await asyncio.gather(*(delete_output(pool, "ada", "p-0") for _ in range(8)))) == [False] * 7 + [True]
    assert await pool.fetchval("SELECT count(*) FROM deleted_outputs") == 1


async def test_nobody_sees_or_changes_what_is_somebody_elses(pool: Pool) -> None:
    await add_picture(pool, "p-0")
    await add_video(pool, "v-0")
    assert await page(pool, user_id="ben") == ([], "")
    for image_id in ("p-0", "v-0"):
        assert await set_favorite(pool, "ben", image_id, True) is None
        assert not await delete_output(pool, "ben", image_id)
    assert [item.is_favorite for item in (await read_page(pool, GalleryQuery("ada"))).items] == [False, False]


@pytest.mark.parametrize("limit", [0, -1, PAGE_MAX + 1])
def test_a_page_has_a_size_within_bounds(limit: int) -> None:
    with pytest.raises(WrongUse, match="limit"):
        GalleryQuery("ada", limit=limit)


def test_a_page_is_of_an_operation_that_there_is() -> None:
    with pytest.raises(WrongUse, match=r"maya\.image"):
        GalleryQuery("ada", operation="no.such")


@pytest.mark.parametrize(
    "place",
    [Place(0, "p"), Place(1_769_860_800_123_456, "p1-0"), Place(1, "x" * 140), Place((1 << 53) - 1, "A.b:c_d-0")],
)
def test_a_cursor_leads_back_to_its_place(place: Place) -> None:
    cursor = cursor_of(place)
    assert place_of(cursor) == place
    assert cursor.isascii()
    assert "=" not in cursor


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "!!!!", "AAAA", "x" * 401, "ü", cursor_of(Place(1, "p"))[:-1], cursor_of(Place(1, "p")) + "AAAA",
     cursor_of(Place(1 << 53, "p")), cursor_of(Place(-1, "p")), cursor_of(Place(1, "x" * 141)), cursor_of(Place(1, "")),
     cursor_of(Place(1, "p\0"))],
)  # fmt: skip
def test_a_cursor_that_is_none_of_ours_is_refused(cursor: str) -> None:
    with pytest.raises(WrongUse, match="cursor"):
        place_of(cursor)


def test_no_random_cursor_breaks_the_gallery() -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    good = cursor_of(Place(1_769_860_800_123_456, "p1-0"))
    for _ in range(3000):
        place = rng.randrange(len(good))
        cursor = good[:place] + rng.choice("ABCDwxyz019-_ =%é\0") + good[place + rng.randrange(2) :]
        try:
            assert isinstance(place_of(cursor), Place)
        except WrongUse:
            continue


async def test_a_page_begins_at_its_place_and_not_at_the_beginning(pool: Pool) -> None:
    """The place must be looked up in the index: a gallery's last page costs what its first does."""
    for number in range(40):
        await add_picture(pool, f"p{number:02}-0", at=NOON + timedelta(seconds=number))
    query = load_queries("gallery")["page"]
    async with pool.acquire() as held:
        await held.execute("SET enable_seqscan = off; SET enable_sort = off; SET plan_cache_mode = force_generic_plan")
        types = "(text, timestamptz, text, text, boolean, bigint)"
        await held.execute(f"PREPARE page {types} AS {query}")
        rows = await held.fetch("EXPLAIN EXECUTE page ('ada', now(), 'p', NULL, false, 11)")
    plan = "\n".join(row[0] for row in rows)
    assert "ROW(created_at, image_id) <" in plan.partition("Index Cond:")[2].partition("\n")[0], plan
