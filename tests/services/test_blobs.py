"""Objects by key: one contract for every kind of store, held against a local folder and an S3-compatible server."""

from __future__ import annotations

import asyncio
import io
import random
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.blobs import FILE_PART_BYTES, ObjectBlobs, Span, open_blobs
from models.errors import BadSetting, Unavailable
from streams.settings import load_settings
from tests.support.s3 import BUCKET, s3_variables


def point_at(monkeypatch: pytest.MonkeyPatch, s3_url: str) -> None:
    for name, value in s3_variables(s3_url).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectBlobs:
    """A store as the setting DARKROOM_BLOBS makes it, empty."""
    if request.param == "folder":
        monkeypatch.setenv("DARKROOM_BLOBS", str(tmp_path / "new" / "folder"))
    else:
        point_at(monkeypatch, request.getfixturevalue("s3_url"))
        monkeypatch.setenv("DARKROOM_BLOBS", f"s3://{BUCKET}/{tmp_path.name}")
    return open_blobs(load_settings().blob_location)


async def keys_of(blobs: ObjectBlobs, prefix: str) -> list[str]:
    """The keys below a prefix, sorted."""
    return sorted([found.key async for found in blobs.list(prefix)])


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
    assert await keys_of(blobs, "images") == ["images/ab/1", "images/cd/2"]
    assert await keys_of(blobs, "images/ab") == ["images/ab/1"]
    assert await keys_of(blobs, "images/a") == []
    assert await keys_of(blobs, "videos") == []


async def test_a_list_is_whole_however_long(blobs: ObjectBlobs) -> None:
    await asyncio.gather(*(blobs.put(f"images/ab/{number}", b"x" * number) for number in range(1100)))
    found = {listed.key: listed.size_bytes async for listed in blobs.list("images/ab")}
    assert found == {f"images/ab/{number}": number for number in range(1100)}


async def test_when_an_object_was_put_and_how_large_it_is_is_known(blobs: ObjectBlobs) -> None:
    assert await blobs.stat("images/ab/1") is None
    before = datetime.now(UTC) - timedelta(seconds=1)  # S3 tells whole seconds
    await blobs.put("images/ab/1", b"one")
    found = await blobs.stat("images/ab/1")
    assert found is not None
    assert (found.key, found.size_bytes) == ("images/ab/1", 3)
    assert before <= found.modified_at <= datetime.now(UTC)
    assert [listed async for listed in blobs.list("images")] == [found]


@pytest.mark.parametrize("span", [Span(0, 1), Span(0, 1000), Span(999, 1000), Span(17, 600)])
async def test_a_span_of_an_object_can_be_read(blobs: ObjectBlobs, span: Span) -> None:
    data = random.Random(1).randbytes(1000)
    await blobs.put("videos/ab/1", data)
    opened = await blobs.open("videos/ab/1", span)
    assert opened is not None
    assert opened.size_bytes == span.end - span.begin
    assert b"".join([part async for part in opened.parts()]) == data[span.begin : span.end]
    assert await blobs.open("videos/ab/2", span) is None


@pytest.mark.parametrize("size_bytes", [0, 1000, 2 * FILE_PART_BYTES + 17])
async def test_a_file_is_put_whole_from_its_beginning(blobs: ObjectBlobs, size_bytes: int) -> None:
    data = random.Random(1).randbytes(size_bytes)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        await blobs.put_file("videos/ab/1", file)
    assert await blobs.get("videos/ab/1") == data
    assert await keys_of(blobs, "videos") == ["videos/ab/1"]
    await blobs.put_file("videos/ab/1", io.BytesIO(b"another"))
    assert await blobs.get("videos/ab/1") == b"another"


async def test_a_reader_sees_one_object_or_the_other(blobs: ObjectBlobs) -> None:
    whole = [bytes([number]) * 300_000 for number in range(6)]
    await blobs.put("k", whole[0])

    async def replace() -> None:
        for data in whole * 3:
            await blobs.put("k", data)

    replacing = asyncio.create_task(replace())
    while not replacing.done():
        assert await blobs.get("k") in whole
    await replacing


async def test_many_puts_of_the_same_object_leave_one(blobs: ObjectBlobs) -> None:
    data = b"x" * 100_000
    await asyncio.gather(*(blobs.put("images/ab/1", data) for _ in range(20)))
    assert await blobs.get("images/ab/1") == data
    assert await keys_of(blobs, "images") == ["images/ab/1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


async def test_a_folder_has_no_half_files(folder: Path) -> None:
    blobs = open_blobs(str(folder))
    await blobs.put("images/ab/1", b"x" * 100_000)
    await blobs.put_file("images/ab/2", io.BytesIO(b"x" * (2 * FILE_PART_BYTES)))
    assert sorted(path.name for path in (folder / "images" / "ab").iterdir()) == ["1", "2"]


@contextmanager
def files_no_larger_than(size_bytes: int) -> Iterator[None]:
    """Every write beyond this size fails, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_without_room_is_unavailable_and_keeps_what_was_there(folder: Path) -> None:
    blobs = open_blobs(str(folder))
    await blobs.put("images/ab/1", b"the one before")
    with files_no_larger_than(1 << 20):
        with pytest.raises(Unavailable, match="blob store"):
            await blobs.put("images/ab/1", b"x" * (2 << 20))
        with pytest.raises(Unavailable, match="blob store"):
            await blobs.put_file("images/ab/1", io.BytesIO(b"x" * (2 * FILE_PART_BYTES)))
    assert await blobs.get("images/ab/1") == b"the one before"
    assert await keys_of(blobs, "images") == ["images/ab/1"]
    await blobs.put("images/ab/1", b"x" * (2 << 20))


async def test_a_folder_that_cannot_be_written_is_unavailable(folder: Path) -> None:
    blobs = open_blobs(str(folder))
    (folder / "images").write_text("a file where a folder should be")
    with pytest.raises(Unavailable, match="blob store"):
        await blobs.put("images/ab/1", b"x")


async def test_a_bucket_that_is_not_there_takes_nothing(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, s3_url)
    blobs = open_blobs("s3://no-such-bucket/prefix")
    with pytest.raises(Unavailable, match="blob store"):
        await blobs.put("images/ab/1", b"x")
    with pytest.raises(Unavailable, match="blob store"):
        await keys_of(blobs, "images")


async def test_a_store_that_is_away_is_unavailable_whatever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, "http://127.0.0.1:9")
    blobs = open_blobs(f"s3://{BUCKET}/prefix")
    asked = (
        blobs.put("k", b"x"),
        blobs.put_file("k", io.BytesIO(b"x")),
        blobs.get("k"),
        blobs.open("k"),
        blobs.exists("k"),
        blobs.delete("k"),
        keys_of(blobs, "images"),
    )
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * len(asked)


async def test_two_prefixes_of_a_bucket_share_nothing(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, s3_url)
    one, other = open_blobs(f"s3://{BUCKET}/one"), open_blobs(f"s3://{BUCKET}/other")
    await one.put("images/ab/1", b"x")
    assert await other.get("images/ab/1") is None
    assert await keys_of(other, "images") == []


@pytest.mark.parametrize("location", ["gs://bucket", "ftp://x/y", "s3://", "/dev/null/x"])
def test_a_location_that_cannot_be_a_store_is_a_bad_setting(location: str) -> None:
    with pytest.raises(BadSetting, match="DARKROOM_BLOBS"):
        open_blobs(location)
