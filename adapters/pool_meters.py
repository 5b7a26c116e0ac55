"""What a connection pool is used for: measured where connections are asked for, read where they are counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from adapters.metrics import POOL_ACQUIRE_SECONDS, POOL_CONNECTIONS, POOL_FAILURES, POOL_MAX, POOL_WAITING


class Counted(Protocol):
    """The pool, as far as it is counted."""

    def get_size(self) -> int:
        """Open connections."""

    def get_idle_size(self) -> int:
        """Open connections that nobody uses."""

    def get_max_size(self) -> int:
        """As many as there may be."""


class PoolMeter:
    """One pool's series. A process that opens another pool of the same name shows the newest."""

    def __init__(self, name: str, pool: Counted) -> None:
        self._waiting = POOL_WAITING.labels(name)
        self._acquire_seconds = POOL_ACQUIRE_SECONDS.labels(name)
        self._failures = POOL_FAILURES.labels(name)
        self._idle = POOL_CONNECTIONS.labels(name, "idle")
        self._used = POOL_CONNECTIONS.labels(name, "used")
        POOL_MAX.labels(name).set(pool.get_max_size())
        self._idle.set_function(pool.get_idle_size)
        self._used.set_function(lambda: pool.get_size() - pool.get_idle_size())

    @contextmanager
    def acquiring(self) -> Iterator[None]:
        """Around the wait for one connection."""
        began = time.perf_counter()
        self._waiting.inc()
        try:
            yield
        except BaseException:
            self._failures.inc()
            raise
        finally:
            self._waiting.dec()
            self._acquire_seconds.observe(time.perf_counter() - began)

    def forget(self) -> None:
        """The pool is closed: do not keep it for its numbers."""
        self._idle.set_function(_none)
        self._used.set_function(_none)


def _none() -> int:
    return 0
