"""Pictures: what may become one, its keys, and where it may come from."""

from __future__ import annotations

import hashlib
import io
import random
import zlib

import pytest
from PIL import Image

from adapters.pictures import read_picture
from devstack.emulator import spoiling
from models.pictures import (
    OutputLost,
    content_type_of_key,
    is_listed_host,
    is_public_address,
    may_be_picture,
    may_be_video,
    sha256_of_key,
)

SHA = "ab" + "0" * 62


def encoded(kind: str, size: tuple[int, int] = (900, 600), mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    noise = Image.frombytes("L", (90, 60), random.Random(1).randbytes(5400)).resize(size)
    noise.convert(mode).save(target, kind)
    return target.getvalue()


def reason_of(data: bytes) -> str:
    with pytest.raises(OutputLost) as lost:
        read_picture(data)
    return lost.value.reason


@pytest.mark.parametrize(
    ("kind", "mode", "extension"),
    [("JPEG", "RGB", "jpg"), ("JPEG", "CMYK", "jpg"), ("JPEG", "L", "jpg"), ("PNG", "RGBA", "png"), ("PNG", "P", "png"),
     ("PNG", "I;16", "png"), ("WEBP", "RGB", "webp")],
)  # fmt: skip
def test_a_good_picture_is_measured_and_gets_a_small_webp(kind: str, mode: str, extension: str) -> None:
    data = encoded(kind, mode=mode)
    picture = read_picture(data)
    sha256 = hashlib.sha256(data).hexdigest()
    assert (picture.width, picture.height, picture.sha256) == (900, 600, sha256)
    assert picture.key == f"images/{sha256[:2]}/{sha256}.{extension}"
    assert picture.thumbnail_key == f"thumbnails/{sha256[:2]}/{sha256}.webp"
    thumbnail = Image.open(io.BytesIO(picture.thumbnail))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (384, 256))


def test_the_same_bytes_give_the_same_objects() -> None:
    assert read_picture(encoded("JPEG")) == read_picture(encoded("JPEG"))


def test_a_small_picture_is_not_blown_up() -> None:
    assert Image.open(io.BytesIO(read_picture(encoded("PNG", (40, 30))).thumbnail)).size == (40, 30)


def test_a_picture_that_is_cut_off_is_corrupt() -> None:
    data = encoded("JPEG")
    assert reason_of(spoiling.corrupted(data)) == "corrupt_image"
    assert reason_of(encoded("PNG")[:-900]) == "corrupt_image"
    assert reason_of(encoded("WEBP")[:-900]) == "corrupt_image"


def test_a_jpeg_that_ends_early_for_its_decoder_is_corrupt() -> None:
    data = encoded("JPEG")
    assert reason_of(data[: len(data) // 2] + b"\xff\xd9" + data[len(data) // 2 : -2]) == "corrupt_image"


def test_what_claims_to_be_huge_is_refused_before_it_is_decoded() -> None:
    assert reason_of(spoiling.claimed_huge(encoded("JPEG"))) == "too_many_pixels"
    assert reason_of(spoiling.claimed_huge(encoded("JPEG"), 7100)) == "too_many_pixels"


def test_a_small_file_that_unpacks_to_more_than_we_take_is_refused() -> None:
    rows = zlib.compress(b"\0" * (20_001 * 20_000 // 8), 9)
    head = (20_000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(bomb) < 100_000
    assert reason_of(bomb) == "too_many_pixels"


@pytest.mark.parametrize("data", [b"", b"<!doctype html>", b"GIF89a" + b"\0" * 50, spoiling.PAGE, b"\xff\xd8\xff"])
def test_what_is_no_picture_of_ours_is_refused(data: bytes) -> None:
    assert reason_of(data) in ("wrong_type", "corrupt_image")


@pytest.mark.parametrize(
    ("key", "content_type"),
    [
        (f"images/ab/{SHA}.jpg", "image/jpeg"),
        (f"images/ab/{SHA}.png", "image/png"),
        (f"thumbnails/ab/{SHA}.webp", "image/webp"),
        (f"videos/ab/{SHA}.mp4", "video/mp4"),
        (f"videos/ab/{SHA}.webm", "video/webm"),
        (f"videos/ab/{SHA}.jpg", None),
        (f"images/ab/{SHA}.mp4", None),
        (f"thumbnails/ab/{SHA}.jpg", None),
        (f"images/ac/{SHA}.jpg", None),
        (f"images/ab/{SHA}.jpg\n", None),
        (f"images/ab/../ab/{SHA}.jpg", None),
        (f"/images/ab/{SHA}.jpg", None),
        (f"backups/ab/{SHA}.jpg", None),
        ("images/ab/../../secrets", None),
        ("", None),
    ],
)
def test_only_keys_of_ours_are_keys(key: str, content_type: str | None) -> None:
    assert content_type_of_key(key) == content_type
    assert sha256_of_key(key) == (SHA if content_type else None)


@pytest.mark.parametrize(
    ("host", "listed"),
    [("replicate.delivery", True), ("pbxt.replicate.delivery", True), ("REPLICATE.delivery.", True),
     ("evilreplicate.delivery", False), ("replicate.delivery.evil.test", False), ("", False), ("127.0.0.1", False)],
)  # fmt: skip
def test_hosts_are_matched_whole(host: str, listed: bool) -> None:
    assert is_listed_host(host, ("replicate.delivery", "*.replicate.delivery")) is listed


@pytest.mark.parametrize(
    ("address", "public"),
    [("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
     ("169.254.169.254", False), ("::1", False), ("fe80::1%eth0", False), ("::ffff:10.0.0.1", False),
     ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False), ("not an address", False)],
)  # fmt: skip
def test_private_addresses_are_told_apart(address: str, public: bool) -> None:
    assert is_public_address(address) is public


@pytest.mark.parametrize(
    ("declared", "possible"),
    [("image/jpeg", True), ("image/webp; q=1", True), ("", True), ("application/octet-stream", True),
     ("text/html", False), ("image/svg+xml", False)],
)  # fmt: skip
def test_what_is_declared_as_something_else_is_not_taken(declared: str, possible: bool) -> None:
    assert may_be_picture(declared) is possible


@pytest.mark.parametrize(
    ("declared", "possible"),
    [("video/mp4", True), ("video/webm; codecs=vp8", True), ("", True), ("binary/octet-stream", True),
     ("image/jpeg", False), ("video/x-msvideo", False), ("text/html", False)],
)  # fmt: skip
def test_what_is_declared_as_something_else_is_no_video(declared: str, possible: bool) -> None:
    assert may_be_video(declared) is possible
