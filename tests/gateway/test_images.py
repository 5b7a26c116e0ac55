"""Stored pictures over HTTP: only ours, cached for ever, streamed."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.blobs import open_blobs
from streams.settings import Settings
from tests.support.s3 import BUCKET, s3_variables

from .conftest import client_of

SHA = "ab" + "c" * 62
KEY = f"images/ab/{SHA}.jpg"
VIDEO = f"videos/ab/{SHA}.mp4"
DATA = bytes(range(256)) * 3000


@pytest.fixture
async def pictures(offline_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    blobs = open_blobs(offline_settings.blob_location)
    await blobs.put(KEY, DATA)
    await blobs.put(VIDEO, DATA)
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
    ("asked", "begin", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=0-0", 0, 1),
        ("bytes=700000-", 700_000, len(DATA)),
        ("bytes=-100", len(DATA) - 100, len(DATA)),
        ("bytes=-9999999", 0, len(DATA)),
        ("bytes=767999-9999999", 767_999, len(DATA)),
    ],
)
async def test_a_range_comes_alone(pictures: httpx.AsyncClient, asked: str, begin: int, end: int) -> None:
    response = await pictures.get(f"/v1/images/{VIDEO}", headers={"range": asked})
    assert (response.status_code, response.content) == (206, DATA[begin:end])
    assert response.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(DATA)}"
    assert response.headers["content-length"] == str(end - begin)
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=768000-", "bytes=9999999-99999999", "bytes=-0"])
async def test_a_range_that_is_not_there_is_told_so(pictures: httpx.AsyncClient, asked: str) -> None:
    response = await pictures.get(f"/v1/images/{VIDEO}", headers={"range": asked})
    assert (response.status_code, response.content) == (416, b"")
    assert response.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-4", "bytes=-", "bytes=0-1,5-6", "items=0-1", "bytes=a-b", "", "bytes=0-1\u0662", f"bytes=0-{10**20}"],
)
async def test_a_range_that_makes_no_sense_is_answered_whole(pictures: httpx.AsyncClient, asked: str) -> None:
    response = await pictures.get(f"/v1/images/{VIDEO}", headers={"range": asked.encode()})
    assert (response.status_code, response.content) == (200, DATA)


async def test_a_range_of_another_content_is_answered_whole(pictures: httpx.AsyncClient) -> None:
    etag = (await pictures.head(f"/v1/images/{VIDEO}")).headers["etag"]
    for known, status in ((etag, 206), ('"other"', 200)):
        response = await pictures.get(f"/v1/images/{VIDEO}", headers={"range": "bytes=0-9", "if-range": known})
        assert response.status_code == status


async def test_a_range_of_nothing_is_not_found(pictures: httpx.AsyncClient) -> None:
    response = await pictures.get(f"/v1/images/videos/ab/{SHA}.webm", headers={"range": "bytes=0-9"})
    assert response.status_code == 404


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
    async with client_of(offline_settings.model_copy(update={"blobs": "s3://bucket", "signed_links": False})) as client:
        response = await client.get(f"/v1/images/{KEY}")
    assert response.status_code == 503
    assert "127.0.0.1" not in response.text


@pytest.fixture
async def on_s3(offline_settings: Settings, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Pictures in a bucket."""
    for name, value in s3_variables(s3_url).items():
        monkeypatch.setenv(name, value)
    settings = offline_settings.model_copy(update={"blobs": f"s3://{BUCKET}/gateway"})
    blobs = open_blobs(settings.blob_location)
    await blobs.put(KEY, DATA)
    await blobs.put_file(VIDEO, io.BytesIO(DATA))
    return settings


async def test_a_file_on_s3_is_had_from_there_by_a_link_that_ends(on_s3: Settings) -> None:
    async with client_of(on_s3) as client, httpx.AsyncClient() as outside:
        for key, content_type in ((KEY, "image/jpeg"), (VIDEO, "video/mp4")):
            answer = await client.get(f"/v1/images/{key}")
            assert (answer.status_code, answer.content) == (307, b"")
            assert "max-age=240" in answer.headers["cache-control"]
            link = answer.headers["location"]
            assert "X-Amz-Expires=300" in link
            assert s3_variables("")["AWS_SECRET_ACCESS_KEY"] not in httpx.URL(link).params.values()
            file = await outside.get(link)
            assert (file.status_code, file.content) == (200, DATA)
            assert file.headers["content-type"] == content_type
            assert "immutable" in file.headers["cache-control"]
            part = await outside.get(link, headers={"range": "bytes=5-9"})
            assert (part.status_code, part.content) == (206, DATA[5:10])
        head = await client.head(f"/v1/images/{KEY}")
        assert (await outside.head(head.headers["location"])).status_code == 200
        assert (await client.get("/v1/images/secrets/ab/key.jpg")).status_code == 404


async def test_links_can_be_turned_off(on_s3: Settings) -> None:
    async with client_of(on_s3.model_copy(update={"signed_links": False})) as client:
        response = await client.get(f"/v1/images/{KEY}")
    assert (response.status_code, response.content) == (200, DATA)
