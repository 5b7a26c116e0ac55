"""An asyncio event loop without waiting: when nothing is ready, time jumps to the next timer.

The same program with the same seed takes the same steps in the same order. There are no sockets, threads or signals.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import base_events
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STEPS_MAX = 2_000_000


class Stalled(Exception):
    """Nothing is ready and no timer runs, or the run takes too many steps."""


class VirtualLoop(base_events.BaseEventLoop):
    """Timers in virtual seconds, callbacks in the order in which they became ready."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._steps = 0
        self._clock_resolution = 1e-9
        self._ready: deque[asyncio.Handle]
        self._scheduled: list[asyncio.TimerHandle]
        self.set_exception_handler(lambda loop, context: None)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            _pop(scheduled)
        if not ready:
            if not scheduled:
                raise Stalled("nothing is ready and no timer runs")
            self._now_s = max(self._now_s, scheduled[0].when())
        while scheduled and (scheduled[0].when() <= self._now_s or scheduled[0]._cancelled):
            timer = _pop(scheduled)
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Stalled(f"more than {STEPS_MAX} steps at {self._now_s:.1f} s")

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass


def _pop(scheduled: list[asyncio.TimerHandle]) -> asyncio.TimerHandle:
    timer = heapq.heappop(scheduled)
    timer._scheduled = False  # type: ignore[attr-defined]
    return timer


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time, then cancel whatever else was begun.

    Raises Stalled: it would wait for ever.
    """
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        _cancel_all(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _cancel_all(loop: VirtualLoop) -> None:
    loop._steps = 0
    for _ in range(20):
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=60.0))
