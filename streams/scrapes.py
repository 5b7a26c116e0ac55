"""What is asked of others when Prometheus asks us: bounded, seldom, and without failing the scrape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from models.errors import Unavailable
from streams.metrics import SCRAPES_INCOMPLETE

ASKED_EVERY_S = 5.0
ASK_TIMEOUT_S = 2.0

Refresh = Callable[[], Awaitable[None]]


class Seldom:
    """Runs `ask` at most every ASKED_EVERY_S and for at most ASK_TIMEOUT_S, whoever scrapes and however often.

    A server that is away leaves the older values and is counted under `what`.
    """

    def __init__(
        self, what: str, ask: Refresh, *, every_s: float = ASKED_EVERY_S, timeout_s: float = ASK_TIMEOUT_S
    ) -> None:
        self._what = what
        self._ask = ask
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")

    async def __call__(self) -> None:
        """Ask if it is time to."""
        async with self._asking:
            if time.monotonic() - self._asked_at < self._every_s:
                return
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._ask()
            except (Unavailable, TimeoutError):
                SCRAPES_INCOMPLETE.labels(self._what).inc()
            self._asked_at = time.monotonic()
