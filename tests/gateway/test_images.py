"""Stored pictures over HTTP: only ours, cached for ever, streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.blobs import open_blobs
from streams.settings import Settings

from .conftest import client_of

SHA = "ab" + "c" * 62
KEY = f"images/ab/{SHA}.jpg"
DATA = bytes(range(256)) * 3000


@pytest.fixture
async def pictures(offline_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    blobs = open_blobs(offline_settings.blob_location)
    await blobs.put(KEY, DATA)
    await blobs.put(f"thumbnails/ab/{SHA}.webp", b"small")
    await blobs.put("secrets/ab/key.jpg", b"private")
    async with client_of(offline_settings) as client:
        yield client


async def test_a_picture_comes_whole_with_its_type_and_may_be_cached_for_ever(pictures: httpx.AsyncClient) -> None:
    response = await pictures.get(f"/v1/images/{KEY}")
    assert (response.status_code, response.content) == (200, DATA)
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["content-length"] == str(len(DATA))
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_thumbnail_has_its_own_type_and_tag(pictures: httpx.AsyncClient) -> None:
    picture = await pictures.head(f"/v1/images/{KEY}")
    thumbnail = await pictures.get(f"/v1/images/thumbnails/ab/{SHA}.webp")
    assert (thumbnail.headers["content-type"], thumbnail.content) == ("image/webp", b"small")
    assert thumbnail.headers["etag"] != picture.headers["etag"]


async def test_who_has_the_picture_is_told_so(pictures: httpx.AsyncClient) -> None:
    etag = (await pictures.head(f"/v1/images/{KEY}")).headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        response = await pictures.get(f"/v1/images/{KEY}", headers={"if-none-match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert (await pictures.get(f"/v1/images/{KEY}", headers={"if-none-match": '"other"'})).status_code == 200


async def test_the_head_of_a_picture_has_no_body(pictures: httpx.AsyncClient) -> None:
    response = await pictures.head(f"/v1/images/{KEY}")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(DATA))


@pytest.mark.parametrize(
    "path",
    [
        "secrets/ab/key.jpg",
        f"images/ab/{SHA}.png",
        "images/ab/..%2f..%2fsecrets/ab/key.jpg",
        "images/%2e%2e/secrets/ab/key.jpg",
        "..%2f..%2fetc%2fpasswd",
        "images/ab/",
        "",
    ],
)
async def test_nothing_else_can_be_had(pictures: httpx.AsyncClient, path: str) -> None:
    response = await pictures.get(f"/v1/images/{path}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_store_that_is_away_is_not_a_missing_picture(
    offline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    async with client_of(offline_settings.model_copy(update={"blobs": "s3://bucket"})) as client:
        response = await client.get(f"/v1/images/{KEY}")
    assert response.status_code == 503
    assert "127.0.0.1" not in response.text
