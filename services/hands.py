"""Hands: a bounded number of pieces of work under way at once, ended in good order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Hands:
    """Tasks of one service. The first unexpected error is kept and raised to whoever asks next."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @property
    def free(self) -> int:
        """How much more can be taken on."""
        return self._limit - len(self._tasks)

    @property
    def busy(self) -> int:
        """How much is under way."""
        return len(self._tasks)

    def take(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a piece of work."""
        task = asyncio.create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._put_down)

    def _put_down(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._failure is None:
            self._failure = task.exception()

    def check(self) -> None:
        """Raises the first error that a piece of work did not expect."""
        if self._failure is not None:
            raise self._failure

    async def wait_free(self, wanted: int, timeout_s: float) -> int:
        """Wait until so many are free, or for that long; returns how many are."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.free < wanted and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        return self.free

    async def drain(self, timeout_s: float) -> None:
        """Wait for all that is under way, then cancel what is left. Raises what `check` raises."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await self.cancel()
        self.check()

    async def cancel(self) -> None:
        """Stop everything now."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
