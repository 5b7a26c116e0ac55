"""Readers, events and losses in any order, on a real Valkey: the cache never goes back, nor behind an event."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import NamedTuple

import pytest
import redis.asyncio

from adapters.credit_cache import CreditCache, Fill
from models.caching import Balance, CreditReading, Move

# One user and few readers: what goes wrong needs them to meet.
USERS = ["ada"]
READERS = 3
STEPS = 5_000


class Reading(NamedTuple):
    """A reader between its claim and its fill; `stored` once it has asked Postgres."""

    user_id: str
    token: str
    stored: int | None = None


class World:
    """Postgres is a number for each user; its events are delivered in any order, some of them again and again."""

    def __init__(self, cache: CreditCache, server: redis.asyncio.Redis, rng: random.Random) -> None:
        self.cache, self.server, self.rng = cache, server, rng
        self.version = dict.fromkeys(USERS, 1)
        self.undelivered: list[tuple[str, int]] = []
        self.delivered: list[tuple[str, int]] = []
        self.readers: list[Reading | None] = [None] * READERS
        self.shown: dict[str, int] = defaultdict(int)
        self.applied: dict[str, int] = defaultdict(int)
        self.counts: dict[str, int] = defaultdict(int)

    async def step(self) -> None:
        """One thing happens; then everybody looks."""
        happenings = [self.commit, self.deliver, self.repeat, *[self.read_on] * 5, *[self.look] * 2, self.lose]
        await self.rng.choice(happenings)(self.rng.choice(USERS))

    async def commit(self, user_id: str) -> None:
        self.version[user_id] += 1
        self.undelivered.append((user_id, self.version[user_id]))

    async def deliver(self, user_id: str) -> None:
        if self.undelivered:
            newest = len(self.undelivered) - 1
            event = self.undelivered.pop(newest if self.rng.random() < 0.7 else self.rng.randint(0, newest))
            self.delivered.append(event)
            await self.apply(event)

    async def repeat(self, user_id: str) -> None:
        if self.delivered:
            await self.apply(self.rng.choice(self.delivered))

    async def apply(self, event: tuple[str, int]) -> None:
        await self.cache.move([Move(balance(*event), late=self.rng.random() < 0.2)])
        user_id, version = event
        self.applied[user_id] = max(self.applied[user_id], version)

    async def read_on(self, user_id: str) -> None:
        """Some reader gets one step further: claim, ask Postgres, fill."""
        number = self.rng.randrange(READERS)
        reader = self.readers[number]
        if reader is None:
            (claim,) = await self.cache.claim([(user_id, 0)])
            if isinstance(claim, CreditReading):
                self.note(claim)
            else:
                self.readers[number] = Reading(user_id, claim)
        elif reader.stored is None:
            self.readers[number] = reader._replace(stored=self.version[reader.user_id])
        else:
            self.readers[number] = None
            fill = Fill(reader.token, balance(reader.user_id, reader.stored), 0.0)
            (outcome,) = await self.cache.fill([fill])
            self.counts["held" if isinstance(outcome, CreditReading) else f"written {outcome}"] += 1
            if isinstance(outcome, CreditReading):
                self.note(outcome)

    async def look(self, user_id: str) -> None:
        held = await self.cache.get(user_id)
        if held is not None:
            self.note(held)

    async def lose(self, user_id: str) -> None:
        """The entry expires or is evicted, the lease is, an operator flushes, or the server starts anew."""
        what = self.rng.choice(["entry"] * 5 + ["lease", "flush", "all"])
        self.counts[f"lost {what}"] += 1
        if what == "entry":
            await self.server.delete(f"credits:{user_id}")
        elif what == "lease":
            await self.server.delete(f"credits-lease:{user_id}")
        elif what == "flush":
            await self.cache.flush()
        else:
            await self.server.flushdb()

    def note(self, shown: CreditReading) -> None:
        """The invariants."""
        self.counts["looks"] += 1
        assert shown.version >= self.shown[shown.user_id], "the cache went back to an earlier version"
        assert shown.version >= self.applied[shown.user_id], "the cache is behind an event that it was told of"
        assert shown.version <= self.version[shown.user_id], "the cache is ahead of Postgres"
        assert shown.balance == balance(shown.user_id, shown.version).balance
        self.shown[shown.user_id] = shown.version


def balance(user_id: str, version: int) -> Balance:
    return Balance(user_id, version * 10, version, version % 2 == 0)


@pytest.mark.parametrize("round_", range(3))
async def test_what_the_cache_shows_never_goes_back(cache: CreditCache, redis_url: str, round_: int) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    async with redis.asyncio.from_url(redis_url) as server:
        world = World(cache, server, random.Random(seed))
        for _ in range(STEPS):
            await world.step()
    assert world.counts["looks"] > 100, dict(world.counts)
    for outcome in ("held", "written True", "written False", "lost entry", "lost flush", "lost all"):
        assert world.counts[outcome] > 2, dict(world.counts)
