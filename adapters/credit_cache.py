"""The credit cache in Redis: `credits:{user_id}`, a hash that only ever moves to a later version.

Whoever writes, on an event or on a miss, writes set-if-newer, so a late reader can never put an old balance
back. Spending is never authorised from here.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import NamedTuple

import redis.asyncio as redis
from redis.exceptions import RedisError

from models.errors import Unavailable

TTL_MS = 30_000
TTL_JITTER_MS = 3_000
TIMEOUT_S = 5.0


class CachedBalance(NamedTuple):
    """A balance with the version that orders it."""

    user_id: str
    balance: int
    version: int
    unlimited: bool


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("Redis", str(error) or type(error).__name__) from error


class CreditCache:
    """Set-if-newer writes and plain reads."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, max_connections=8, decode_responses=True
        )
        script = resources.files("adapters.sql").joinpath("set_if_newer.lua").read_text(encoding="utf-8")
        self._set_if_newer = self._redis.register_script(script)

    async def put(self, balances: Iterable[CachedBalance]) -> int:
        """Write those that are newer than what is held; how many were. Raises Unavailable."""
        with _mapped_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for entry in balances:
                ttl_ms = TTL_MS + random.randrange(TTL_JITTER_MS)  # noqa: S311
                arguments = [entry.balance, entry.version, int(entry.unlimited), ttl_ms]
                await self._set_if_newer(keys=[f"credits:{entry.user_id}"], args=arguments, client=pipeline)
            return sum(await pipeline.execute())

    async def get(self, user_id: str) -> CachedBalance | None:
        """What is held for a user. Raises Unavailable."""
        with _mapped_errors():
            held = await self._redis.hgetall(f"credits:{user_id}")
        if not held:
            return None
        return CachedBalance(user_id, int(held["balance"]), int(held["version"]), held["unlimited"] == "1")

    async def ping(self) -> None:
        """Raises Unavailable."""
        with _mapped_errors():
            await self._redis.ping()

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()
