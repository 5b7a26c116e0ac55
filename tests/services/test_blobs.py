"""Objects by key. One contract for every kind of store; here the local folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.blobs import ObjectBlobs, open_blobs
from models.errors import BadSetting, Unavailable


@pytest.fixture
def blobs(tmp_path: Path) -> ObjectBlobs:
    return open_blobs(str(tmp_path / "new" / "folder"))


async def test_what_was_put_can_be_got_whole_and_in_parts(blobs: ObjectBlobs) -> None:
    data = bytes(range(256)) * 4000
    await blobs.put("images/ab/one.jpg", data)
    opened = await blobs.open("images/ab/one.jpg")
    assert opened is not None
    assert opened.size_bytes == len(data)
    parts = [part async for part in opened.parts()]
    assert b"".join(parts) == data == await blobs.get("images/ab/one.jpg")
    assert len(parts) > 1


async def test_what_is_not_there_is_none(blobs: ObjectBlobs) -> None:
    assert await blobs.get("images/none") is None
    assert await blobs.open("images/none") is None
    assert not await blobs.exists("images/none")


async def test_putting_again_replaces(blobs: ObjectBlobs) -> None:
    await blobs.put("k", b"one")
    await blobs.put("k", b"two")
    assert await blobs.get("k") == b"two"


async def test_deleting_is_for_ever_and_twice_is_fine(blobs: ObjectBlobs) -> None:
    await blobs.put("k", b"one")
    assert await blobs.exists("k")
    await blobs.delete("k")
    await blobs.delete("k")
    assert not await blobs.exists("k")


async def test_a_list_has_the_keys_below_its_prefix(blobs: ObjectBlobs) -> None:
    for key in ("images/ab/1", "images/cd/2", "thumbnails/ab/1"):
        await blobs.put(key, b"x")
    assert sorted([found.key async for found in blobs.list("images")]) == ["images/ab/1", "images/cd/2"]


async def test_a_local_store_leaves_no_half_files(blobs: ObjectBlobs, tmp_path: Path) -> None:
    await blobs.put("images/ab/1", b"x" * 100_000)
    assert [path.name for path in (tmp_path / "new" / "folder" / "images" / "ab").iterdir()] == ["1"]


async def test_a_local_store_that_cannot_write_is_unavailable(blobs: ObjectBlobs, tmp_path: Path) -> None:
    (tmp_path / "new" / "folder" / "images").write_text("a file where a folder should be")
    with pytest.raises(Unavailable, match="blob store"):
        await blobs.put("images/ab/1", b"x")


async def test_a_store_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unavailable, match="blob store"):
        await open_blobs("s3://bucket/prefix").get("k")


@pytest.mark.parametrize("location", ["gs://bucket", "ftp://x/y", "s3://", "/dev/null/x"])
def test_a_location_that_cannot_be_a_store_is_a_bad_setting(location: str) -> None:
    with pytest.raises(BadSetting, match="DARKROOM_BLOBS"):
        open_blobs(location)
