"""Fetching files from elsewhere: only from listed hosts, never from private addresses, never more than agreed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import httpx

from models.errors import Unavailable
from models.pictures import (
    BYTES_MAX,
    REDIRECTS_MAX,
    VIDEO_BYTES_MAX,
    OutputLost,
    is_listed_host,
    is_public_address,
    may_be_picture,
    may_be_video,
)

TIMEOUT_S = 30.0
VIDEO_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 32

Resolve = Callable[[str, int], Awaitable[list[str]]]
Take = Callable[[bytes], Awaitable[object]]
"""Takes the parts of a file as they come."""


@dataclass(frozen=True)
class Agreed:
    """What may come: so many bytes, in so many seconds, declared as something that `may_be` it."""

    bytes_max: int
    timeout_s: float
    may_be: Callable[[str], bool]


PICTURE = Agreed(BYTES_MAX, TIMEOUT_S, may_be_picture)
VIDEO = Agreed(VIDEO_BYTES_MAX, VIDEO_TIMEOUT_S, may_be_video)


class Downloads:
    """Downloads with caps on bytes and time.

    `allowed_hosts` may hold wildcards; what their names resolve to must be public, and is then what is connected to.
    `trusted_hosts`, and addresses that are listed literally, may be private: an operator has named them.
    """

    def __init__(
        self,
        *,
        allowed_hosts: Collection[str],
        trusted_hosts: Collection[str] = (),
        picture: Agreed = PICTURE,
        video: Agreed = VIDEO,
        resolve: Resolve | None = None,
    ) -> None:
        self._trusted = {host.lower() for host in trusted_hosts} | {host for host in allowed_hosts if _is_address(host)}
        self._allowed = {*allowed_hosts, *self._trusted}
        self._picture = picture
        self._video = video
        self._resolve = resolve or _resolve
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            headers={"accept-encoding": "identity", "accept": "image/*, video/*"},
            follow_redirects=False,
            trust_env=False,
        )

    async def picture(self, url: str) -> bytes:
        """A picture's file, whole.

        Raises OutputLost: gone, refused, forbidden_host, too_large or wrong_type. Unavailable: try again.
        """
        parts: list[bytes] = []

        async def take(part: bytes) -> None:
            parts.append(part)

        await self._pour(url, take, self._picture)
        return b"".join(parts)

    async def video(self, url: str, take: Take) -> None:
        """Hand a video's file to `take`, part by part; after an error, what was taken is not the whole of it.

        Raises what `picture` raises.
        """
        await self._pour(url, take, self._video)

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def _pour(self, url: str, take: Take, agreed: Agreed) -> None:
        try:
            async with asyncio.timeout(agreed.timeout_s):
                target = httpx.URL(url)
                for _ in range(REDIRECTS_MAX + 1):
                    onward = await self._pour_one(target, take, agreed)
                    if onward is None:
                        return
                    target = onward
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise OutputLost("forbidden_host", f"not a URL to fetch: {error}") from error
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise Unavailable("the output's host", repr(error)) from error
        raise OutputLost("refused", f"more than {REDIRECTS_MAX} redirects")

    async def _pour_one(self, url: httpx.URL, take: Take, agreed: Agreed) -> httpx.URL | None:
        """Where a redirect leads; None when the file has come."""
        request = await self._request(url)
        response = await self._client.send(request, stream=True)
        try:
            if response.is_redirect:
                return url.join(response.headers.get("location", ""))
            _check_answer(response, agreed)
            size_bytes = 0
            async for part in response.aiter_raw():
                size_bytes += len(part)
                if size_bytes > agreed.bytes_max:
                    raise OutputLost("too_large", f"more than {agreed.bytes_max} bytes")
                await take(part)
            return None
        finally:
            await response.aclose()

    async def _request(self, url: httpx.URL) -> httpx.Request:
        """A request to the very address that was checked, so that a name cannot change its mind in between."""
        if url.scheme not in ("http", "https") or not is_listed_host(url.host, self._allowed):
            raise OutputLost("forbidden_host", f"{url.scheme}://{url.host} is not a host to fetch from")
        if url.host.lower() in self._trusted:
            return self._client.build_request("GET", url)
        addresses = await self._resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not addresses or not all(map(is_public_address, addresses)):
            raise OutputLost("forbidden_host", f"{url.host} resolves to an address that is not public")
        return self._client.build_request(
            "GET",
            url.copy_with(host=addresses[0]),
            headers={"host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )


def _check_answer(response: httpx.Response, agreed: Agreed) -> None:
    status = response.status_code
    if status in (404, 410):
        raise OutputLost("gone", f"the host answers {status}")
    if status in (408, 425, 429) or status >= 500:
        raise Unavailable("the output's host", f"it answers {status}")
    if status != 200:
        raise OutputLost("refused", f"the host answers {status}")
    declared = response.headers.get("content-type", "")
    if not agreed.may_be(declared):
        raise OutputLost("wrong_type", f"declared as {declared[:100]}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise OutputLost("wrong_type", "the file comes encoded, though that was not asked for")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > agreed.bytes_max:
        raise OutputLost("too_large", f"{length} bytes are more than {agreed.bytes_max}")


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
