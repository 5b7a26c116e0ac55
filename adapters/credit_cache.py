"""The credit cache in Redis: `credits:{user_id}`, a hash that never goes back to an earlier version.

All users of a call go in one script call and come back in one reply: a command for each would cost more than the
read that it saves. What the scripts guarantee, whatever expires, is evicted, flushed or lost:

- An entry that is there only moves to later versions.
- An entry that is missing begins only under a lease, `credits-lease:{user_id}`, claimed before Postgres was asked.
  Every write ends the lease, so nobody has been shown more than what comes with it.

After a failed call nobody waits for Redis until it has answered a probe; probes are made beside the calls that are
refused meanwhile. The keys of one call have no slot in common: this is for one Redis, not for a cluster.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import msgspec
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from adapters.metrics import CACHE_UP
from models.caching import Balance, Breaker, CreditReading, Move, ttl_ms
from models.errors import Unavailable

TIMEOUT_S = 5.0
CONNECTIONS_MAX = 8
USERS_PER_CALL = 256
LEASE_MS = 5_000
PROBE_EVERY_S = 0.5
SCAN_COUNT = 1_000
FLUSH_TIMEOUT_S = 120.0

T = TypeVar("T")
_Held = tuple[int, int, int, int]
"""balance, version, unlimited, age in ms: as the scripts say it."""

_decode_held = msgspec.msgpack.Decoder(list[_Held | bool]).decode
_decode_claims = msgspec.msgpack.Decoder(list[_Held | str]).decode
_decode_flags = msgspec.msgpack.Decoder(list[bool]).decode


class Fill(NamedTuple):
    """A balance from Postgres on its way into the cache, with the lease's token and its age in seconds."""

    token: str
    balance: Balance
    age_s: float


class CreditCache:
    """Reads and writes of entries, many users at a time. Every method that asks raises Unavailable.

    `timeout_s` bounds each call, one new connection included.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._breaker = Breaker(PROBE_EVERY_S)
        self._probing: asyncio.Task[None] | None = None
        CACHE_UP.set(1)
        pool = redis.BlockingConnectionPool.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            # A call whose answer was lost may still be carried out. Its lease must not come to life for a second try.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = redis.Redis.from_pool(pool)
        self._read = self._script("credits_read")
        self._claim = self._script("credits_claim")
        self._fill = self._script("credits_fill")
        self._move = self._script("credits_move")

    def is_up(self) -> bool:
        """Whether a call is worth making. While it is not, probes are made so that this comes true again by itself."""
        if self._breaker.is_closed:
            return True
        if self._breaker.takes_probe(time.monotonic()):
            self._probing = asyncio.create_task(self._probe(), name="probe Redis")
        return False

    async def read(self, user_ids: Sequence[str]) -> list[CreditReading | None]:
        """What is held for each of these users."""
        found: list[CreditReading | None] = []
        for part in _parts(user_ids):
            packed = await self._call(self._read, [f"credits:{user_id}" for user_id in part])
            for user_id, held in zip(part, _decode_held(packed), strict=True):
                found.append(None if isinstance(held, bool) else _reading(user_id, held))
        return found

    async def get(self, user_id: str) -> CreditReading | None:
        """What is held for one user."""
        return (await self.read([user_id]))[0]

    async def claim(self, asked: Sequence[tuple[str, int]]) -> list[CreditReading | str]:
        """For each (user_id, least version that will do): what is held, or a token to fill with."""
        answers: list[CreditReading | str] = []
        for part in _parts(asked):
            arguments = [secrets.token_hex(8), LEASE_MS, *(floor for _, floor in part)]
            packed = await self._call(self._claim, _keys(user_id for user_id, _ in part), arguments)
            for (user_id, _), answer in zip(part, _decode_claims(packed), strict=True):
                answers.append(answer if isinstance(answer, str) else _reading(user_id, answer))
        return answers

    async def fill(self, fills: Sequence[Fill]) -> list[CreditReading | bool]:
        """For each: True if written, False if the lease is over, or what is held if that is as new or newer."""
        answers: list[CreditReading | bool] = []
        for part in _parts(fills):
            arguments: list[Any] = []
            for token, balance, age_s in part:
                arguments += (token, balance.balance, balance.version, int(balance.unlimited))
                arguments += (int(age_s * 1000), _ttl_ms())
            packed = await self._call(self._fill, _keys(fill.balance.user_id for fill in part), arguments)
            for fill, answer in zip(part, _decode_held(packed), strict=True):
                answers.append(answer if isinstance(answer, bool) else _reading(fill.balance.user_id, answer))
        return answers

    async def move(self, moves: Sequence[Move]) -> list[str]:
        """Apply events; returns the users of whom nothing is held now."""
        missing: list[str] = []
        for part in _parts(moves):
            arguments: list[Any] = []
            for balance, late in part:
                arguments += (balance.balance, balance.version, int(balance.unlimited), int(late), _ttl_ms())
            packed = await self._call(self._move, _keys(move.balance.user_id for move in part), arguments)
            flags = _decode_flags(packed)
            missing += [move.balance.user_id for move, is_held in zip(part, flags, strict=True) if not is_held]
        return missing

    async def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Some of the users held, about `count`, and the cursor to go on with; 0 begins, and comes with the last."""
        async with self._guarded():
            following, keys = await self._redis.scan(cursor, match="credits:*", count=count)
        return int(following), [_text(key).removeprefix("credits:") for key in keys]

    async def flush(self) -> int:
        """Drop every entry that is there now; returns how many. Other keys of the same Redis stay."""
        dropped, cursor = 0, 0
        deadline_s = time.monotonic() + FLUSH_TIMEOUT_S
        while True:
            cursor, user_ids = await self.scan(cursor, SCAN_COUNT)
            if user_ids:
                async with self._guarded():
                    dropped += await self._redis.unlink(*(f"credits:{user_id}" for user_id in user_ids))
            if cursor == 0:
                return dropped
            if time.monotonic() > deadline_s:
                raise Unavailable("Redis", f"{dropped} entries are dropped and there is no end; flush again")

    async def close(self) -> None:
        """Disconnect."""
        if self._probing is not None:
            self._probing.cancel()
        await self._redis.aclose()

    def _script(self, name: str) -> Any:
        texts = (resources.files("adapters.sql").joinpath(f"{part}.lua") for part in ("credits_common", name))
        return self._redis.register_script("\n".join(text.read_text(encoding="utf-8") for text in texts))

    async def _call(self, script: Any, keys: list[str], arguments: Sequence[Any] = ()) -> Any:
        async with self._guarded():
            return await script(keys=keys, args=arguments)

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """A limit on the time, the breaker, and the end of the driver's errors."""
        if not self.is_up():
            raise Unavailable("Redis", "it did not answer a moment ago")
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            self._breaker.fail(time.monotonic())
            CACHE_UP.set(0)
            raise Unavailable("Redis", str(error) or type(error).__name__) from error

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError):
            return
        self._breaker.succeed()
        CACHE_UP.set(1)


def _keys(user_ids: Iterable[str]) -> list[str]:
    return list(chain.from_iterable((f"credits:{user_id}", f"credits-lease:{user_id}") for user_id in user_ids))


def _text(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "replace")


def _reading(user_id: str, held: _Held) -> CreditReading:
    balance, version, unlimited, age_ms = held
    return CreditReading(user_id, balance, version, unlimited == 1, max(0, age_ms) / 1000, True)


def _ttl_ms() -> int:
    return ttl_ms(random.random())  # noqa: S311


def _parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """A call blocks the server for as long as it takes, so it has a bound."""
    if len(items) <= USERS_PER_CALL:
        return (items,) if items else ()
    ordered = iter(items)
    return iter(lambda: list(islice(ordered, USERS_PER_CALL)), [])
