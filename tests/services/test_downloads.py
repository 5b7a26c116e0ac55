"""Downloads: only what was agreed, only from where it was agreed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from adapters.downloads import PICTURE, VIDEO, Downloads
from models.errors import Unavailable
from models.pictures import OutputLost


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn: (its URL, the requests it got)."""
    requests: list[bytes] = []
    waiting = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(waiting.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        server.close()


def ok(body: bytes, *headers: str, kind: str = "image/jpeg") -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", f"content-type: {kind}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def resolving(*addresses: str) -> Callable[[str, int], Awaitable[list[str]]]:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


def trusting(bytes_max: int = 1 << 20, **changed: Any) -> Downloads:
    agreed = {"picture": replace(PICTURE, bytes_max=bytes_max), "video": replace(VIDEO, bytes_max=bytes_max)}
    return Downloads(allowed_hosts=(), trusted_hosts=("127.0.0.1",), **agreed, **changed)


async def reason_of(downloads: Downloads, url: str) -> str:
    with pytest.raises(OutputLost) as lost:
        await downloads.picture(url)
    await downloads.close()
    return lost.value.reason


async def test_a_file_comes_as_it_is() -> None:
    async with answering(ok(b"\xff\xd8picture")) as (url, requests):
        downloads = trusting()
        assert await downloads.picture(f"{url}/a.jpg") == b"\xff\xd8picture"
        assert b"accept-encoding: identity" in requests[0].lower()
        await downloads.close()


async def test_a_file_that_is_declared_too_large_is_not_read() -> None:
    async with answering(ok(b"x" * 11)) as (url, _):
        assert await reason_of(trusting(bytes_max=10), url) == "too_large"


async def test_a_file_that_does_not_declare_its_size_is_cut_at_the_cap() -> None:
    body = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\nconnection: close\r\n\r\n" + b"x" * 100_000
    async with answering(body) as (url, _):
        assert await reason_of(trusting(bytes_max=50_000), url) == "too_large"


async def test_a_video_comes_in_parts_and_within_its_own_cap() -> None:
    body = random.Random(1).randbytes(300_000)
    parts: list[bytes] = []

    async def take(part: bytes) -> None:
        parts.append(part)

    downloads = trusting()
    async with answering(ok(body, kind="video/mp4")) as (url, _):
        await downloads.video(f"{url}/a.mp4", take)
    assert b"".join(parts) == body
    assert len(parts) > 1
    await downloads.close()
    parts.clear()
    downloads = trusting(bytes_max=200_000)
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\n\r\n" + body) as (url, _):
        with pytest.raises(OutputLost) as lost:
            await downloads.video(f"{url}/a.mp4", take)
    assert lost.value.reason == "too_large"
    assert sum(map(len, parts)) <= 200_000
    await downloads.close()


async def test_a_picture_is_no_video_and_a_video_is_no_picture() -> None:
    async with answering(ok(b"x", kind="video/mp4")) as (url, _):
        assert await reason_of(trusting(), url) == "wrong_type"
    downloads = trusting()
    async with answering(ok(b"x")) as (url, _):
        with pytest.raises(OutputLost, match="image/jpeg"):
            await downloads.video(url, _ignore)
    await downloads.close()


async def _ignore(part: bytes) -> None:
    pass


async def test_an_encoded_file_is_not_unpacked() -> None:
    async with answering(ok(b"\x1f\x8b bomb", "content-encoding: gzip")) as (url, _):
        assert await reason_of(trusting(), url) == "wrong_type"


@pytest.mark.parametrize(("status", "reason"), [(404, "gone"), (410, "gone"), (403, "refused"), (204, "refused")])
async def test_what_is_gone_is_lost(status: int, reason: str) -> None:
    async with answering(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode()) as (url, _):
        assert await reason_of(trusting(), url) == reason


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_come_back_is_tried_again(status: int) -> None:
    async with answering(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode()) as (url, _):
        downloads = trusting()
        with pytest.raises(Unavailable):
            await downloads.picture(url)
        await downloads.close()


async def test_a_download_that_breaks_off_is_tried_again() -> None:
    async with answering(ok(b"half")[:-2]) as (url, _):
        downloads = trusting()
        with pytest.raises(Unavailable):
            await downloads.picture(url)
        await downloads.close()


async def test_a_redirect_is_followed_only_to_where_one_may_go() -> None:
    there = b"HTTP/1.1 302 Found\r\nlocation: /b.jpg\r\ncontent-length: 0\r\n\r\n"
    away = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n"
    async with answering(there, ok(b"picture")) as (url, requests):
        downloads = trusting()
        assert await downloads.picture(f"{url}/a.jpg") == b"picture"
        assert b"GET /b.jpg" in requests[1]
        await downloads.close()
    async with answering(away) as (url, _):
        assert await reason_of(trusting(), url) == "forbidden_host"
    async with answering(*[there] * 5) as (url, requests):
        assert await reason_of(trusting(), url) == "refused"
        assert len(requests) == 4


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.test/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AA",
        "http://",
        "",
        "http://[::1",
        "x",
    ],
)
async def test_what_is_not_on_the_list_is_not_fetched(url: str) -> None:
    assert await reason_of(trusting(resolve=resolving("93.184.216.34")), url) == "forbidden_host"


@pytest.mark.parametrize("addresses", [["10.0.0.7"], ["93.184.216.34", "127.0.0.1"], ["::ffff:192.168.0.1"], []])
async def test_a_listed_name_that_resolves_to_a_private_address_is_refused(addresses: list[str]) -> None:
    downloads = Downloads(allowed_hosts=("*.cdn.test",), resolve=resolving(*addresses))
    assert await reason_of(downloads, "https://a.cdn.test/x.jpg") == "forbidden_host"


async def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.downloads.is_public_address", lambda address: True)
    async with answering(ok(b"picture")) as (url, requests):
        port = url.rpartition(":")[2]
        downloads = Downloads(allowed_hosts=("*.cdn.test",), resolve=resolving("127.0.0.1"))
        assert await downloads.picture(f"http://a.cdn.test:{port}/x.jpg") == b"picture"
        assert f"host: a.cdn.test:{port}".encode() in requests[0].lower()
        await downloads.close()


async def test_an_address_that_an_operator_has_listed_may_be_private() -> None:
    async with answering(ok(b"picture")) as (url, _):
        downloads = Downloads(allowed_hosts=("127.0.0.1",))
        assert await downloads.picture(url) == b"picture"
        await downloads.close()
