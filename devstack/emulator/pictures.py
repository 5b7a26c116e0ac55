"""Draws output files when they are first asked for: in threads, each once at a time, kept up to a bound."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor

from devstack.emulator.drawing.draw import draw_picture, jpeg_of
from devstack.emulator.drawing.plan import PicturePlan, folded
from devstack.emulator.drawing.webm import webm_of
from devstack.emulator.options import EmulatorOptions
from devstack.emulator.spoiling import stamped


class Pictures:
    """Bytes of pictures by plan. The cache is bounded in bytes; what falls out is drawn again the same."""

    def __init__(self, options: EmulatorOptions, totals: Counter[str]) -> None:
        self._distinct = options.distinct_pictures
        self._bytes_max = options.cache_bytes_max
        self._totals = totals
        self._threads = ThreadPoolExecutor(options.drawing_threads, thread_name_prefix="drawing")
        self._kept: OrderedDict[tuple[PicturePlan, bool], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._in_work: dict[tuple[PicturePlan, bool], asyncio.Future[bytes]] = {}

    async def picture(self, plan: PicturePlan, video: bool = False) -> bytes:
        """JPEG, or WebM for a video."""
        drawn = folded(plan, self._distinct) if self._distinct else plan
        key = (drawn, video)
        kept = self._kept.get(key)
        if kept is None:
            kept = await self._made(key)
        else:
            self._kept.move_to_end(key)
        return stamped(kept, f"{plan.detail_seed:016x}") if self._distinct and not video else kept

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _made(self, key: tuple[PicturePlan, bool]) -> bytes:
        work = self._in_work.get(key)
        if work is None:
            work = asyncio.get_running_loop().run_in_executor(self._threads, _made_now, *key)
            self._in_work[key] = work
            work.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(work)

    def _finished(self, key: tuple[PicturePlan, bool], work: asyncio.Future[bytes]) -> None:
        self._in_work.pop(key, None)
        if work.cancelled() or work.exception():
            return
        self._totals["files_drawn"] += 1
        self._kept[key] = work.result()
        self._kept_bytes += len(work.result())
        while self._kept_bytes > self._bytes_max and self._kept:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)


def _made_now(plan: PicturePlan, video: bool) -> bytes:
    return webm_of(plan) if video else jpeg_of(draw_picture(plan))
