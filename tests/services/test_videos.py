"""Videos: known by their containers, measured by their headers, never decoded."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import tracemalloc
from pathlib import Path

import pytest

from adapters.blobs import open_blobs
from adapters.downloads import Downloads
from adapters.spool import BUFFER_BYTES, Spool
from adapters.videos import read_video
from models.pictures import OutputLost, Video

from .containers import box, mp4, track, webm

SHA = "ab" + "0" * 62


def read(data: bytes) -> Video:
    return read_video(io.BytesIO(data), len(data), SHA)


def reason_of(data: bytes) -> str:
    with pytest.raises(OutputLost) as lost:
        read(data)
    return lost.value.reason


@pytest.mark.parametrize(
    "data",
    [
        mp4(),
        mp4(first=False),
        mp4(track(0, 0), track(640, 360, version=1)),
        mp4(brand=b"MSNV"),
        mp4() + box(b"free", b"\0" * 9),
        mp4()[:-14] + b"\0\0\0\0mdat" + b"frames that go on to the end",
        mp4() + b"\0\0\0\1mdat" + (20).to_bytes(8, "big") + b"long",
    ],
    ids=["index first", "index last", "sound track first", "compatible brand", "trailing box", "open end", "long box"],
)
def test_an_mp4_is_known_and_measured(data: bytes) -> None:
    video = read(data)
    assert (video.content_type, video.width, video.height) == ("video/mp4", 640, 360)
    assert video.key == f"videos/ab/{SHA}.mp4"


def test_a_webm_is_known_and_measured() -> None:
    video = read(webm())
    assert (video.content_type, video.width, video.height) == ("video/webm", 96, 64)
    assert video.key == f"videos/ab/{SHA}.webm"


def test_a_webm_that_does_not_say_how_long_it_is_is_taken() -> None:
    data = webm()
    place = data.index(b"\x18\x53\x80\x67") + 4
    live = data[:place] + b"\x01" + b"\xff" * 7 + data[place + 8 :]
    assert read(live).width == 96


@pytest.mark.parametrize("data", [mp4(track(0, 0)), mp4(box(b"trak"))], ids=["only sound", "empty track"])
def test_what_does_not_say_its_size_has_none(data: bytes) -> None:
    assert (read(data).width, read(data).height) == (0, 0)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff\xe0 a jpeg", b"<!doctype html>", b"RIFF\0\0\0\0AVI ",
     b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + mp4(), b"\0\0\0\x08ftyp" + mp4(), webm().replace(b"\x42\x82", b"\x42\x81"),
     webm().replace(b"webm", b"mkv!")],
)  # fmt: skip
def test_what_is_neither_is_refused(data: bytes) -> None:
    assert reason_of(data) == "wrong_type"


@pytest.mark.parametrize(
    "data",
    [mp4()[:-1], mp4()[:60], mp4(first=False)[:-40], box(b"ftyp", b"isom\0\0\0\0isom"), webm()[: len(webm()) // 2],
     mp4() + b"\0\0\0\4free", webm()[:40]],
)  # fmt: skip
def test_what_breaks_off_is_corrupt(data: bytes) -> None:
    assert reason_of(data) == "corrupt_video"


def test_what_claims_to_be_huge_is_refused() -> None:
    assert reason_of(mp4(track(40_000, 40_000))) == "too_many_pixels"


def test_boxes_without_end_are_not_counted_for_ever() -> None:
    assert reason_of(mp4() + box(b"free") * 20_000) == "corrupt_video"
    assert reason_of(mp4(box(b"trak", box(b"edts") * 20_000))) == "corrupt_video"


def test_no_damage_breaks_the_reader() -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    whole = [mp4(), mp4(track(0, 0), track(640, 360, version=1), first=False), webm()]
    judged = set()
    for _ in range(3000):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 6)):
            # Headers are at the beginning: what is there matters most.
            data[rng.randrange(min(len(data), 400))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        data = data[: rng.choice((len(data), rng.randrange(len(data))))]
        try:
            judged.add(read(bytes(data)).content_type)
        except OutputLost as lost:
            judged.add(lost.reason)
    assert judged >= {"video/mp4", "video/webm", "corrupt_video", "wrong_type"}


async def test_a_spool_gives_back_what_it_took() -> None:
    data = random.Random(1).randbytes(3 * BUFFER_BYTES + 17)
    async with Spool() as spool:
        for begin in range(0, len(data), 65_000):
            await spool.take(data[begin : begin + 65_000])
        file, sha256 = await spool.whole()
        file.seek(0)
        assert file.read() == data
    assert (sha256, spool.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert file.closed


async def test_a_large_video_is_never_in_memory_whole(tmp_path: Path) -> None:
    frames = 48 << 20
    head = mp4(content=b"")[:-8] + (frames + 8).to_bytes(4, "big") + b"mdat"
    part = random.Random(1).randbytes(1 << 20)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = f"content-length: {len(head) + frames}"
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\n{length}\r\n\r\n".encode() + head)
        for _ in range(frames // len(part)):
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    downloads, blobs = Downloads(allowed_hosts=("127.0.0.1",)), open_blobs(str(tmp_path / "blobs"))
    tracemalloc.start()
    try:
        async with Spool() as spool:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.mp4"
            await downloads.video(url, spool.take)
            file, sha256 = await spool.whole()
            video = read_video(file, spool.size_bytes, sha256)
            await blobs.put_file(video.key, file)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        server.close()
        await downloads.close()
    assert peak_bytes < 16 << 20
    assert (tmp_path / "blobs" / video.key).stat().st_size == len(head) + frames
    assert (video.width, video.height) == (640, 360)
