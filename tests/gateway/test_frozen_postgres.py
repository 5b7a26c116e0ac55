"""A Postgres that takes what it is sent and never answers: whoever waits is answered in time all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from adapters.postgres import RELEASE_TIMEOUT_S, close_pool, connection, open_pool
from gateway.bounds import within
from models.errors import Unavailable
from streams.settings import Settings


class Freezer:
    """Stands before a server; once `frozen`, nothing more passes and nobody is told."""

    def __init__(self, host: str, port: int) -> None:
        self.frozen = False
        self._to = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        there, back = await asyncio.open_connection(*self._to)
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._pass_on(source, sink)))

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not self.frozen:
                sink.write(data)
        sink.close()

    async def close(self) -> None:
        """Cut everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def freezer(settings: Settings) -> AsyncIterator[tuple[Freezer, str]]:
    """(what freezes, the address of Postgres behind it)."""
    url = settings.require("postgres")
    parts = urlsplit(url)
    made = Freezer(parts.hostname or "127.0.0.1", parts.port or 5432)
    server = await asyncio.start_server(made.take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield made, url.replace(f":{parts.port}/", f":{port}/")
        await made.close()


async def test_a_frozen_postgres_holds_nobody_longer_than_the_limit(freezer: tuple[Freezer, str]) -> None:
    between, url = freezer
    pool = await open_pool(url, size_max=1, application="test")
    try:
        async with connection(pool) as held:
            assert await held.fetchval("SELECT 1") == 1
        between.frozen = True
        began = time.monotonic()
        with pytest.raises(Unavailable):
            async with within(0.5, "Postgres"), connection(pool) as held:
                await held.fetchval("SELECT 1")
        # The driver would wait out its own 20 s for the answer to its cancellation.
        assert time.monotonic() - began < 0.5 + RELEASE_TIMEOUT_S + 5
        between.frozen = False
        async with connection(pool) as held:
            assert await held.fetchval("SELECT 1") == 1
    finally:
        await close_pool(pool)
