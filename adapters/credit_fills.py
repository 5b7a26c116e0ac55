"""Filling the credit cache from Postgres, for whoever finds something missing: a reader or the events' agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from adapters.books import read_balances
from adapters.credit_cache import CreditCache, Fill
from adapters.metrics import CACHE_FILLS, CACHE_QUERIES
from adapters.postgres import Pool, connection
from models.caching import Balance, CreditReading, newest
from models.errors import Unavailable

QUERY_TIMEOUT_S = 2.0

LoadBalances = Callable[[Sequence[str]], Awaitable[Mapping[str, Balance]]]
"""The committed balances of some users, those without an account left out. Raises Unavailable."""


class Filled(NamedTuple):
    """An answer, or why there is none; `is_held` if the cache is known to hold its version or a later one."""

    answer: CreditReading | Unavailable
    is_held: bool


def balances_from(pool: Pool) -> LoadBalances:
    """Balances by a pool, in QUERY_TIMEOUT_S at most, the wait for a connection included."""

    async def load(user_ids: Sequence[str]) -> Mapping[str, Balance]:
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S), connection(pool) as held:
                return await read_balances(held, user_ids)
        except TimeoutError as error:
            raise Unavailable("Postgres", f"balances took longer than {QUERY_TIMEOUT_S:g} s") from error

    return load


class CreditFills:
    """Claims, asks Postgres, fills: in this order, so that what is written was true after it was claimed."""

    def __init__(self, cache: CreditCache, load: LoadBalances) -> None:
        self._cache = cache
        self._load = load

    async def fill(self, asked: Sequence[tuple[str, int]]) -> list[Filled]:
        """For each (user_id, least version that will do) the balance now, put into the cache if that may be.

        While the cache is away Postgres alone answers; while Postgres is away, what the cache has got.
        """
        claims = await self._claims(asked)
        filled = {index: Filled(claim, True) for index, claim in enumerate(claims) if isinstance(claim, CreditReading)}
        wanted = [index for index in range(len(asked)) if index not in filled]
        if wanted:
            began_s = time.monotonic()
            try:
                stored = await self._load([asked[index][0] for index in wanted])
                CACHE_QUERIES.inc()
            except Unavailable as error:
                return [filled.get(index, Filled(error, False)) for index in range(len(asked))]
            age_s = time.monotonic() - began_s
            for index in wanted:
                user_id = asked[index][0]
                balance = stored.get(user_id, Balance(user_id, 0, 0, False))
                filled[index] = Filled(CreditReading(*balance, age_s, False), False)
            filled |= await self._put({index: filled[index] for index in wanted}, claims)
        return [filled[index] for index in range(len(asked))]

    async def _claims(self, asked: Sequence[tuple[str, int]]) -> Sequence[CreditReading | str | None]:
        try:
            return await self._cache.claim(asked)
        except Unavailable:
            return [None] * len(asked)

    async def _put(
        self, stored: Mapping[int, Filled], claims: Sequence[CreditReading | str | None]
    ) -> dict[int, Filled]:
        """What became of the answers that have a lease."""
        readings = {index: answer for index, (answer, _) in stored.items() if isinstance(answer, CreditReading)}
        fills = {
            index: Fill(token, Balance(*reading[:4]), reading.age_s)
            for index, reading in readings.items()
            if isinstance(token := claims[index], str)
        }
        try:
            outcomes = await self._cache.fill(list(fills.values()))
        except Unavailable:
            CACHE_FILLS.labels("lost").inc(len(fills))
            return {}
        settled = {}
        for index, outcome in zip(fills, outcomes, strict=True):
            if isinstance(outcome, CreditReading):
                CACHE_FILLS.labels("held").inc()
                settled[index] = Filled(newest(readings[index], outcome), True)
            else:
                CACHE_FILLS.labels("written" if outcome else "refused").inc()
                settled[index] = Filled(readings[index], outcome)
        return settled
