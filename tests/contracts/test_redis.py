"""What the credit cache's scripts do: in memory and in Valkey alike."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.credit_cache import CreditCache, Fill
from models.caching import Balance, CreditReading, Move
from simulation.fakes.redis import FakeCreditCache, Keyspace
from tests.contracts.conftest import process

USERS = ("a", "b", "c")


@pytest.fixture
async def real_cache(redis_url: str) -> AsyncIterator[CreditCache]:
    cache = CreditCache(redis_url)
    yield cache
    await cache.close()


def memory_cache() -> CreditCache:
    return FakeCreditCache(Keyspace(), process())


async def play_calls(cache: CreditCache, seed: int) -> list[Any]:
    """Random calls and what each gave, but for tokens and ages."""
    dice = random.Random(seed)
    tokens: dict[str, str] = {}
    given: list[Any] = []
    for _ in range(150):
        user_id, version = dice.choice(USERS), dice.randint(1, 12)
        balance = Balance(user_id, version * 10, version, False)
        match dice.choice(["read", "claim", "fill", "fill", "move", "move"]):
            case "read":
                given.append([_told(found) for found in await cache.read(USERS)])
            case "claim":
                answer = (await cache.claim([(user_id, version)]))[0]
                if isinstance(answer, str):
                    tokens[user_id] = answer
                given.append(_told(answer))
            case "fill":
                token = tokens.get(user_id, "none")
                given.append(_told((await cache.fill([Fill(token, balance, 0.0)]))[0]))
            case "move":
                given.append(await cache.move([Move(balance, dice.random() < 0.2)]))
    return given


def _told(answer: CreditReading | str | bool | None) -> object:
    if isinstance(answer, CreditReading):
        return answer.user_id, answer.balance, answer.version, answer.unlimited
    return "token" if isinstance(answer, str) else answer


@pytest.mark.parametrize("seed", range(6))
async def test_random_calls_give_the_same_on_both(real_cache: CreditCache, seed: int) -> None:
    print(f"seed {seed}")
    assert await play_calls(memory_cache(), seed) == await play_calls(real_cache, seed)


@pytest.fixture(params=["memory", "valkey"])
def cache(request: pytest.FixtureRequest) -> CreditCache:
    return memory_cache() if request.param == "memory" else request.getfixturevalue("real_cache")


async def test_a_lease_is_shared_and_ended_by_any_write(cache: CreditCache) -> None:
    first, second = [(await cache.claim([("a", 1)]))[0] for _ in range(2)]
    assert first == second
    await cache.move([Move(Balance("a", 10, 1, False), False)])
    assert await cache.fill([Fill(str(first), Balance("a", 0, 0, False), 0.0)]) == [False]
