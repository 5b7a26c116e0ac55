"""Fetching files from elsewhere: only from listed hosts, never from private addresses, never more than agreed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

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
_REDIRECTS = (301, 302, 303, 307, 308)

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
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX,
                resolver=_Checked(resolve or _resolve, self._trusted),
                use_dns_cache=False,
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=TIMEOUT_S),
            headers={"accept-encoding": "identity", "accept": "image/*, video/*"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
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
        await self._session.close()

    async def _pour(self, url: str, take: Take, agreed: Agreed) -> None:
        try:
            async with asyncio.timeout(agreed.timeout_s):
                target = _parsed(url)
                for _ in range(REDIRECTS_MAX + 1):
                    onward = await self._pour_one(target, take, agreed)
                    if onward is None:
                        return
                    target = onward
        except (aiohttp.InvalidURL, UnicodeError) as error:
            raise OutputLost("forbidden_host", f"not a URL to fetch: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable("the output's host", repr(error)) from error
        raise OutputLost("refused", f"more than {REDIRECTS_MAX} redirects")

    async def _pour_one(self, url: URL, take: Take, agreed: Agreed) -> URL | None:
        """Where a redirect leads; None when the file has come."""
        if url.scheme not in ("http", "https") or not is_listed_host(url.host or "", self._allowed):
            raise OutputLost("forbidden_host", f"{url.scheme}://{url.host} is not a host to fetch from")
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                return url.join(_parsed(response.headers.get("location", "")))
            _check_answer(response, agreed)
            size_bytes = 0
            async for part in response.content.iter_any():
                size_bytes += len(part)
                if size_bytes > agreed.bytes_max:
                    raise OutputLost("too_large", f"more than {agreed.bytes_max} bytes")
                await take(part)
            return None


class _Checked(AbstractResolver):
    """Names of hosts that nobody has vouched for must lead to public addresses, all of them; these very addresses are
    then connected to, so that a name cannot change its mind in between."""

    def __init__(self, resolve: Resolve, trusted: Collection[str]) -> None:
        self._resolve = resolve
        self._trusted = trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OutputLost: forbidden_host."""
        addresses = await self._resolve(host, port)
        if host.lower() not in self._trusted and not (addresses and all(map(is_public_address, addresses))):
            raise OutputLost("forbidden_host", f"{host} resolves to an address that is not public")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _parsed(url: str) -> URL:
    """By the very parser that the connection goes by."""
    try:
        return URL(url)
    except ValueError as error:
        raise OutputLost("forbidden_host", f"not a URL to fetch: {error}") from error


def _check_answer(response: aiohttp.ClientResponse, agreed: Agreed) -> None:
    status = response.status
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
