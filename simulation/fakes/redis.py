"""The credit cache's Redis in memory: what its four scripts do, and a watch on what they show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError

from adapters.credit_cache import PROBE_EVERY_S, TIMEOUT_S, CreditCache
from models.caching import Breaker
from simulation.net import Process

_pack = msgspec.msgpack.Encoder().encode


class Entry(NamedTuple):
    """A cached balance: since when it is true and until when it is held, in seconds."""

    balance: int
    version: int
    unlimited: int
    at_s: float
    until_s: float


class Keyspace:
    """Entries and leases by user. `shown` are the latest versions that anybody was shown; they never go back."""

    def __init__(self) -> None:
        self.is_away = False
        self.problems: list[str] = []
        self.seen: set[tuple[str, int, int]] = set()
        """(user, version, balance) of all that was ever written."""
        self._entries: dict[str, Entry] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._shown: dict[str, int] = {}

    def flush(self) -> None:
        """Everything is lost."""
        self._entries.clear()
        self._leases.clear()

    def held(self, key: str) -> Entry | None:
        """The entry, unless it has expired."""
        entry = self._entries.get(key)
        if entry is not None and entry.until_s <= _now_s():
            del self._entries[key]
            return None
        return entry

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> bytes:
        """Run one of the scripts."""
        answers: list[Any] = getattr(self, f"_{script}")(keys, arguments)
        return _pack(answers)

    def _credits_read(self, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        return [self._show(key) or False for key in keys]

    def _credits_claim(self, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        token, lease_ms, *floors = arguments
        answers: list[Any] = []
        for key, floor in zip(keys[::2], floors, strict=True):
            entry = self.held(key)
            if entry is not None and entry.version >= floor:
                answers.append(self._show(key))
                continue
            lease = self._lease(key)
            if lease is None:
                self._leases[key] = (token, _now_s() + lease_ms / 1000)
            answers.append(lease or token)
        return answers

    def _credits_fill(self, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        answers: list[Any] = []
        for number, key in enumerate(keys[::2]):
            token, balance, version, unlimited, age_ms, ttl_ms = arguments[number * 6 : number * 6 + 6]
            entry = self.held(key)
            is_behind = entry is not None and entry.version < version
            is_ahead = entry is not None and entry.version > version
            if is_behind or (not is_ahead and self._lease(key) == token):
                self._write(key, balance, version, unlimited, age_ms, ttl_ms)
                answers.append(True)
            else:
                answers.append(self._show(key) or False)
        return answers

    def _credits_move(self, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        answers: list[Any] = []
        for number, key in enumerate(keys[::2]):
            balance, version, unlimited, late, ttl_ms = arguments[number * 5 : number * 5 + 5]
            entry = self.held(key)
            is_behind = entry is not None and entry.version < version
            self._leases.pop(key, None)
            if is_behind and not late:
                self._write(key, balance, version, unlimited, 0, ttl_ms)
            elif is_behind or entry is None:
                self._entries.pop(key, None)
            answers.append(key in self._entries)
        return answers

    def _lease(self, key: str) -> str | None:
        token, until_s = self._leases.get(key, ("", 0.0))
        return token if until_s > _now_s() else None

    def _write(self, key: str, balance: int, version: int, unlimited: int, age_ms: int, ttl_ms: int) -> None:
        self._leases.pop(key, None)
        self._entries[key] = Entry(balance, version, unlimited, _now_s() - age_ms / 1000, _now_s() + ttl_ms / 1000)
        self.seen.add((key.removeprefix("credits:"), version, balance))

    def _show(self, key: str) -> list[int] | None:
        entry = self.held(key)
        if entry is None:
            return None
        if entry.version < self._shown.get(key, 0):
            self.problems.append(f"{key} went back from version {self._shown[key]} to {entry.version}")
        self._shown[key] = entry.version
        return [entry.balance, entry.version, entry.unlimited, int((_now_s() - entry.at_s) * 1000)]


class FakeCreditCache(CreditCache):
    """The production cache, breaker and all, over the keyspace in memory."""

    def __init__(self, keyspace: Keyspace, process: Process) -> None:
        self._timeout_s = TIMEOUT_S
        self._breaker = Breaker(PROBE_EVERY_S)
        self._probing = None
        self._keyspace = keyspace
        self._process = process
        self._redis: Any = self
        self._read, self._claim = "credits_read", "credits_claim"
        self._fill, self._move = "credits_fill", "credits_move"

    async def ping(self) -> None:
        """Answers unless it is away."""
        await self._process.hop()
        self._refuse_if_away()

    async def close(self) -> None:
        """Nothing is held."""

    async def _call(self, script: Any, keys: list[str], arguments: Sequence[Any] = ()) -> Any:
        async with self._guarded():
            await self._process.hop()
            self._refuse_if_away()
            answer = self._keyspace.run(script, keys, arguments)
            await self._process.hop()
            self._refuse_if_away()
            return answer

    def _refuse_if_away(self) -> None:
        if self._keyspace.is_away:
            raise RedisConnectionError("the server is away")


def _now_s() -> float:
    return asyncio.get_running_loop().time()
