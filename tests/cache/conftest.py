"""A cache, and accounts that move."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.credit_cache import CreditCache
from adapters.postgres import close_pool, open_pool
from tests.cache.accounts import Accounts


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[CreditCache]:
    """The cache on an empty Valkey database."""
    made = CreditCache(redis_url)
    yield made
    await made.close()


@pytest.fixture
async def accounts(database: str) -> AsyncIterator[Accounts]:
    """Accounts in a database of the test's own, reached by a pool of three."""
    pool = await open_pool(database, size_max=3, application="test")
    yield Accounts(pool)
    await close_pool(pool)
