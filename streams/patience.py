"""Trying again until a deadline, with pauses that grow and are never the same for everybody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from models.errors import Unavailable

T = TypeVar("T")

FIRST_S = 0.1
MOST_S = 5.0


class Deadline:
    """A moment `timeout_s` from now, on the running loop's clock."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self.at = self._loop.time() + timeout_s

    @property
    def left_s(self) -> float:
        """What is left; 0 when it has passed."""
        return max(0.0, self.at - self._loop.time())

    async def pause(self, pause_s: float) -> bool:
        """Sleep, and say True; False at once when the pause would go past the deadline."""
        if pause_s >= self.left_s:
            return False
        await asyncio.sleep(pause_s)
        return True

    async def retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What an attempt returns, tried again while it raises Unavailable. Raises the last one, at the deadline."""
        waits = pauses()
        while True:
            try:
                return await attempt()
            except Unavailable:
                if not await self.pause(next(waits)):
                    raise


def pauses() -> Iterator[float]:
    """Seconds between tries, endlessly: doubling up to MOST_S, each anywhere between half and the whole of that."""
    longest_s = FIRST_S
    while True:
        yield random.uniform(longest_s / 2, longest_s)  # noqa: S311  pauses, not secrets
        longest_s = min(MOST_S, longest_s * 2)
