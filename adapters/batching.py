"""Questions that come one by one, asked together.

What is asked within one turn of the event loop, or while earlier batches are on their way, goes out as one batch. So
batches are as small as the load allows and as large as it needs, and a burst of equal questions is one question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from models.errors import Unavailable

K = TypeVar("K", bound=Hashable)
A = TypeVar("A")


class Batcher(Generic[K, A]):
    """Answers questions in batches.

    1. An answer never comes from a batch that was sent before its question: later questions go into later batches.
    2. Whoever asks what is asked and not sent yet shares that question. A question is in one batch at a time.
    3. No more than `in_flight_max` batches are on their way, and no more than `waiting_max` wait for an answer.

    `fetch` answers each key in order, with an answer or an error, or raises for all. It must bound its own time.
    """

    def __init__(
        self,
        what: str,
        fetch: Callable[[Sequence[K]], Awaitable[Sequence[A | Exception]]],
        *,
        batch_max: int,
        in_flight_max: int,
        waiting_max: int,
    ) -> None:
        self.shared = 0
        """How many questions were somebody else's already."""
        self._what = what
        self._fetch = fetch
        self._batch_max = batch_max
        self._in_flight_max = in_flight_max
        self._waiting_max = waiting_max
        self._waiting = 0
        self._gathered: dict[K, list[asyncio.Future[A]]] = {}
        self._sent: set[K] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False

    def ask(self, key: K) -> asyncio.Future[A]:
        """The answer to come. Raises Unavailable: too many wait already."""
        if self._waiting >= self._waiting_max:
            raise Unavailable(self._what, f"{self._waiting} reads wait for it already; try again shortly")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._waiting += 1
        waiters = self._gathered.get(key)
        if waiters is not None:
            waiters.append(answer)
            self.shared += 1
            return answer
        self._gathered[key] = [answer]
        if not self._is_due and len(self._tasks) < self._in_flight_max:
            self._is_due = True
            loop.call_soon(self._send)
        return answer

    async def close(self) -> None:
        """Ask no more; who still waits gets Unavailable."""
        self._waiting_max = 0
        gathered, self._gathered = self._gathered, {}
        for waiters in gathered.values():
            self._answer(waiters, Unavailable(self._what, "it is being closed"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _send(self) -> None:
        self._is_due = False
        while len(self._tasks) < self._in_flight_max and (batch := self._take()):
            self._sent.update(batch)
            task = asyncio.create_task(self._run(batch), name=f"batch of {self._what}")
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _take(self) -> dict[K, list[asyncio.Future[A]]]:
        if not self._sent and len(self._gathered) <= self._batch_max:
            batch, self._gathered = self._gathered, {}
            return batch
        ready = islice((key for key in self._gathered if key not in self._sent), self._batch_max)
        return {key: self._gathered.pop(key) for key in list(ready)}

    async def _run(self, batch: dict[K, list[asyncio.Future[A]]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._fetch(list(batch))
            assert len(answers) == len(batch)
        except asyncio.CancelledError:
            answers = [Unavailable(self._what, "it is being closed")] * len(batch)
        except Exception as error:
            answers = [error] * len(batch)
        self._sent.difference_update(batch)
        for waiters, answer in zip(batch.values(), answers, strict=True):
            self._answer(waiters, answer)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._gathered:
            self._send()

    def _answer(self, waiters: list[asyncio.Future[A]], answer: A | Exception) -> None:
        self._waiting -= len(waiters)
        for waiter in waiters:
            if waiter.done():  # whoever asked has gone
                continue
            if isinstance(answer, Exception):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
