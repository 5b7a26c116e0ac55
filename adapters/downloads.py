"""Fetching files from elsewhere: only from listed hosts, never from private addresses, never more than agreed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection

import httpx

from models.errors import Unavailable
from models.pictures import BYTES_MAX, REDIRECTS_MAX, OutputLost, is_listed_host, is_public_address, may_be_picture

TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 32

Resolve = Callable[[str, int], Awaitable[list[str]]]


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
        timeout_s: float = TIMEOUT_S,
        bytes_max: int = BYTES_MAX,
        resolve: Resolve | None = None,
    ) -> None:
        self._trusted = {host.lower() for host in trusted_hosts} | {host for host in allowed_hosts if _is_address(host)}
        self._allowed = {*allowed_hosts, *self._trusted}
        self._timeout_s = timeout_s
        self._bytes_max = bytes_max
        self._resolve = resolve or _resolve
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            headers={"accept-encoding": "identity", "accept": "image/*"},
            follow_redirects=False,
            trust_env=False,
        )

    async def fetch(self, url: str) -> bytes:
        """A file's bytes.

        Raises OutputLost: gone, refused, forbidden_host, too_large or wrong_type. Unavailable: try again.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                target = httpx.URL(url)
                for _ in range(REDIRECTS_MAX + 1):
                    content, target = await self._fetch_one(target)
                    if content is not None:
                        return content
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise OutputLost("forbidden_host", f"not a URL to fetch: {error}") from error
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise Unavailable("the output's host", repr(error)) from error
        raise OutputLost("refused", f"more than {REDIRECTS_MAX} redirects")

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def _fetch_one(self, url: httpx.URL) -> tuple[bytes | None, httpx.URL]:
        """(the content, its URL), or (None, where a redirect leads)."""
        request = await self._request(url)
        response = await self._client.send(request, stream=True)
        try:
            if response.is_redirect:
                return None, url.join(response.headers.get("location", ""))
            _check_answer(response, self._bytes_max)
            parts, size_bytes = [], 0
            async for part in response.aiter_raw():
                size_bytes += len(part)
                if size_bytes > self._bytes_max:
                    raise OutputLost("too_large", f"more than {self._bytes_max} bytes")
                parts.append(part)
            return b"".join(parts), url
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


def _check_answer(response: httpx.Response, bytes_max: int) -> None:
    status = response.status_code
    if status in (404, 410):
        raise OutputLost("gone", f"the host answers {status}")
    if status in (408, 425, 429) or status >= 500:
        raise Unavailable("the output's host", f"it answers {status}")
    if status != 200:
        raise OutputLost("refused", f"the host answers {status}")
    declared = response.headers.get("content-type", "")
    if not may_be_picture(declared):
        raise OutputLost("wrong_type", f"declared as {declared[:100]}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise OutputLost("wrong_type", "the file comes encoded, though that was not asked for")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > bytes_max:
        raise OutputLost("too_large", f"{length} bytes are more than {bytes_max}")


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
