"""The connection pool and the end of asyncpg's errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeAlias

import asyncpg

from adapters.pool_meters import PoolMeter
from models.errors import BadSetting, Unavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

COMMAND_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 5.0
ACQUIRE_TIMEOUT_S = 20.0
RELEASE_TIMEOUT_S = 1.0

# The server went away, is starting or stopping, has no connection left, or chose us as a deadlock's victim:
# everything was rolled back and may be tried again.
_TRANSIENT = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


# The address is not right: nobody but a person can mend that.
_MISDIRECTED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn what says "not now" into Unavailable; what says "never" (a bug, a broken constraint) passes through.

    Raises BadSetting too: the server is there and refuses the user, the password or the database.
    """
    try:
        yield
    except _MISDIRECTED as error:
        raise BadSetting("DARKROOM_POSTGRES", f"the server refuses it: {error}") from error
    except _TRANSIENT as error:
        raise Unavailable("Postgres", str(error).strip() or type(error).__name__) from error


_meters: dict[Pool, PoolMeter] = {}


async def open_pool(url: str, *, size_max: int, application: str) -> Pool:
    """Open a pool; connections are made when first needed, so a server that is away delays, never fails.

    Raises Unavailable: the first connection could not be made.
    """
    with mapped_errors():
        pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            max_inactive_connection_lifetime=300.0,
            reset=_keep_session,
            server_settings={"application_name": application, "timezone": "UTC", "jit": "off"},
        )
    _meters[pool] = PoolMeter(application, pool)
    return pool


async def _keep_session(used: Connection) -> None:
    """asyncpg resets a session each time it goes back to the pool: a round trip a step, for settings, locks and
    subscriptions that nobody here leaves behind."""


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for a short while, with errors mapped."""
    meter = _meters.get(pool)
    with mapped_errors():
        if meter is None:
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as acquired:
                yield acquired
            return
        with meter.acquiring():
            held = await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        try:
            yield held
        finally:
            # A server that does not answer takes no cancellation either: its connection is cut, and nobody waits.
            with suppress(TimeoutError):
                await pool.release(held, timeout=RELEASE_TIMEOUT_S)


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction that commits when the block ends and rolls back when it raises, with errors mapped."""
    async with connection(pool) as acquired, acquired.transaction():
        yield acquired


async def close_pool(pool: Pool, *, timeout_s: float = 2.0) -> None:
    """Close in good order if that goes quickly, else at once."""
    meter = _meters.pop(pool, None)
    if meter is not None:
        meter.forget()
    try:
        async with asyncio.timeout(timeout_s):
            await pool.close()
    except TimeoutError:
        pool.terminate()
