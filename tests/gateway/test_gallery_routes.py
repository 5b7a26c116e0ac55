"""Galleries over HTTP: pages, favourites, deletions."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.callers import ADA, BEN, DASHBOARD, PRODUCER, assert_problem

GALLERY = "/v1/gallery"
PICTURE = "p-ada-picture-0"
VIDEO = "p-ada-video-0"


async def ids(client: httpx.AsyncClient, **query: object) -> list[str]:
    found = await client.get(GALLERY, params=query, headers=ADA)  # type: ignore[arg-type]
    assert found.status_code == 200, found.text
    return [item["image_id"] for item in found.json()["items"]]


async def test_pages_hold_everything_once_newest_first(books: httpx.AsyncClient) -> None:
    everything = await ids(books, limit=100)
    assert {PICTURE, VIDEO} <= set(everything)
    paged: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "4"} | ({} if cursor is None else {"cursor": cursor})
        page = (await books.get(GALLERY, params=query, headers=ADA)).json()
        paged += [item["image_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == everything
    assert len(set(paged)) == len(paged) > 8


async def test_a_gallery_can_be_asked_for_one_operation_or_favourites(books: httpx.AsyncClient) -> None:
    assert await ids(books, operation="video.animation") == [VIDEO]
    assert await ids(books, favorites=True) == []
    await books.post(f"{GALLERY}/{PICTURE}/favorite", headers=ADA)
    assert await ids(books, favorites="true") == [PICTURE]


async def test_an_item_says_what_it_is(books: httpx.AsyncClient) -> None:
    page = (await books.get(GALLERY, params={"operation": "maya.image", "user": "ada"}, headers=DASHBOARD)).json()
    (item,) = page["items"]
    assert (item["image_id"], item["request_id"], item["content_type"]) == (PICTURE, "picture", "image/jpeg")
    assert item["url"].startswith("http://gateway/")
    assert item["created_at"].endswith("Z")
    assert item["is_favorite"] is False


async def test_a_favourite_is_toggled_or_set(books: httpx.AsyncClient) -> None:
    async def favorite(**given: object) -> bool:
        response = await books.post(f"{GALLERY}/{VIDEO}/favorite", headers=ADA, **given)  # type: ignore[arg-type]
        assert response.status_code == 200
        assert response.json()["image_id"] == VIDEO
        return bool(response.json()["is_favorite"])

    assert [await favorite(), await favorite(), await favorite(json={})] == [True, False, True]
    for wanted in (True, True, False, False):
        assert await favorite(json={"favorite": wanted}) is wanted


async def test_what_is_deleted_is_gone(books: httpx.AsyncClient) -> None:
    for image_id in (PICTURE, VIDEO):
        gone = await books.delete(f"{GALLERY}/{image_id}", params={"user": "ada"}, headers=PRODUCER)
        assert (gone.status_code, gone.content) == (204, b"")
        assert_problem(await books.delete(f"{GALLERY}/{image_id}", headers=ADA), 404, "not_found")
        assert_problem(await books.post(f"{GALLERY}/{image_id}/favorite", headers=ADA), 404, "not_found")
    assert not {PICTURE, VIDEO} & set(await ids(books, limit=100))


async def test_somebody_else_s_pictures_are_not_there(books: httpx.AsyncClient) -> None:
    assert_problem(await books.delete(f"{GALLERY}/{PICTURE}", headers=BEN), 404, "not_found")
    assert_problem(await books.post(f"{GALLERY}/{PICTURE}/favorite", headers=BEN), 404, "not_found")
    assert_problem(await books.get(GALLERY, params={"user": "ada"}, headers=BEN), 403, "forbidden")
    assert PICTURE in await ids(books, limit=100)


async def test_a_dashboard_reads_and_changes_nothing(books: httpx.AsyncClient) -> None:
    query = {"user": "ada"}
    assert (await books.get(GALLERY, params=query, headers=DASHBOARD)).status_code == 200
    assert_problem(await books.delete(f"{GALLERY}/{PICTURE}", params=query, headers=DASHBOARD), 403, "forbidden")
    refused = await books.post(f"{GALLERY}/{PICTURE}/favorite", params=query, headers=DASHBOARD)
    assert_problem(refused, 403, "forbidden")


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"cursor": "none of ours"}, {"operation": "no.such"}, {"favorites": "maybe"}],
)
async def test_a_page_that_cannot_be_is_invalid(books: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert_problem(await books.get(GALLERY, params=query, headers=ADA), 422, "invalid")


async def test_a_body_that_is_no_wish_is_invalid(books: httpx.AsyncClient) -> None:
    for body in (b"[", b'{"favorite": "perhaps"}', b"[]"):
        response = await books.post(
            f"{GALLERY}/{PICTURE}/favorite", content=body, headers=ADA | {"content-type": "application/json"}
        )
        assert_problem(response, 422, "invalid")
    assert await ids(books, favorites=True) == []
