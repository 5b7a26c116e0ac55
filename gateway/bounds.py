"""Limits on what one request may take: time, and places where few may be at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from models.errors import Unavailable

READ_TIMEOUT_S = 3.0
"""For everything that a reading route asks of Postgres or Redis."""

T = TypeVar("T")


@asynccontextmanager
async def within(timeout_s: float, what: str) -> AsyncIterator[None]:
    """A block that ends in time. What is cancelled is cancelled at the server too. Raises Unavailable naming `what`."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise Unavailable(what, f"no answer within {timeout_s:g} s") from error


class Places:
    """So many may be inside at once; whoever comes then is sent away, not kept waiting."""

    def __init__(self, count: int, what: str) -> None:
        self._free = count
        self._what = what

    @contextmanager
    def one(self) -> Iterator[None]:
        """Be inside. Raises Unavailable: all places are taken."""
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> None:
        """Go inside; `give_back` must follow. Raises Unavailable."""
        if self._free == 0:
            raise Unavailable(self._what, "too many are at it")
        self._free -= 1

    def give_back(self) -> None:
        """Go out."""
        self._free += 1


async def in_time(work: Coroutine[Any, Any, T], places: Places, timeout_s: float, what: str) -> T:
    """The work's result, if it comes in time.

    Work that is late is told to stop, and whoever waits is answered at once; the place is free when it has stopped.
    Raises Unavailable naming `what`, and whatever the work raises.
    """
    try:
        places.take()
    except Unavailable:
        work.close()
        raise
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: _leave(done, places))
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        raise Unavailable(what, f"no answer within {timeout_s:g} s")
    return task.result()


def _leave(done: asyncio.Task[Any], places: Places) -> None:
    places.give_back()
    if not done.cancelled():
        # Nobody may be waiting any more; what went wrong then is nobody's news.
        done.exception()
