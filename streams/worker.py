"""The life of one worker process: start, ready, stop; stop loudly when something unplanned happens."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence

import structlog

from streams.app import RoleApp
from streams.garbage import tame_garbage_collector
from streams.health import HealthServer
from streams.lanes import Lanes
from streams.metrics import LANE_BYTES, LANES_OPEN
from streams.scrapes import Refresh

log = structlog.get_logger()

STOP_TIMEOUT_S = 7.0
LIFE_AFTER_TERM_S = 9.0
WATCHDOG_INTERVAL_S = 0.5
EXIT_STUCK = 70


class _Stopping:
    """Whether and when the worker was told to stop."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._at: float | None = None

    def ask(self) -> None:
        """End in good order."""
        self._at = self._at or time.monotonic()
        self.asked.set()

    def for_s(self) -> float:
        """For how long it has been stopping; 0 before that."""
        return 0.0 if self._at is None else time.monotonic() - self._at


def watch(lanes: Lanes, timeout_s: float, stopping_for_s: Callable[[], float] = lambda: 0.0) -> None:
    """End the process when a step has shown no life for `timeout_s`, or when stopping takes too long.

    A thread of its own, since what hangs may be the event loop; the consumer's thread would go on polling and
    the group would never rebalance. It does so too when the broker was away while Faust stopped: then its thread is
    never joined, and goes on saying that the partitions have an owner.
    """

    def look() -> None:
        while True:
            time.sleep(WATCHDOG_INTERVAL_S)
            stuck_s = lanes.longest_stuck_s()
            if stuck_s > timeout_s:
                log.error("worker stops", why="a step is stuck", stuck_s=round(stuck_s, 1))
                os._exit(EXIT_STUCK)
            if stopping_for_s() > LIFE_AFTER_TERM_S:
                log.warning("worker stopped the hard way", waited_s=LIFE_AFTER_TERM_S)
                os._exit(1 if lanes.failure is not None else 0)

    threading.Thread(target=look, name="watchdog", daemon=True).start()


async def run_worker(
    app: RoleApp,
    *,
    role: str,
    metrics_port: int,
    metrics_host: str = "127.0.0.1",
    step_timeout_s: float,
    on_ready: Callable[[str], None],
    beside: Callable[[asyncio.Event], Coroutine[None, None, None]] | None = None,
    refreshes: Sequence[Refresh] = (),
) -> int:
    """Run the app until TERM, Ctrl-C or a failure; returns the exit code.

    `beside` is work that lives as long as the worker; it gets the event that says stop. `on_ready` is called once
    with the health server's address, when partitions have been assigned and positioned. `refreshes` bring measures up
    to date at a scrape; each bounds its own time and raises nothing.
    """
    tame_garbage_collector()
    sys.setswitchinterval(0.02)
    stopping = _Stopping()
    stop = stopping.asked
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.ask)
    lanes = app.lanes
    lanes.on_failure = lambda error: stopping.ask()
    watch(lanes, step_timeout_s, stopping.for_s)

    async def refresh() -> None:
        LANES_OPEN.set(sum(lane.positioned for lane in lanes.here.values()))
        LANE_BYTES.set(sum(lane.size_bytes for lane in lanes.here.values()))
        await asyncio.gather(*(one() for one in refreshes))

    health = HealthServer(metrics_port, lanes.ready, refresh, role, metrics_host)
    address = await health.start()
    side = asyncio.create_task(beside(stop)) if beside is not None else None
    if side is not None:
        side.add_done_callback(lambda task: _on_side_done(task, lanes, stop))
    try:
        starting = asyncio.create_task(app.start())
        starting.add_done_callback(lambda task: _on_start_done(task, lanes))
        announcing = asyncio.create_task(_announce(lanes, lambda: on_ready(address)))
        crashed = asyncio.create_task(_wait_for_crash(app, lanes, stop))
        await stop.wait()
        announcing.cancel()
        crashed.cancel()
        starting.cancel()
        await _stop_app(app)
        if side is not None:
            await asyncio.wait({side}, timeout=STOP_TIMEOUT_S)
    finally:
        await health.stop()
    return 1 if lanes.failure is not None else 0


async def _announce(lanes: Lanes, on_ready: Callable[[], None]) -> None:
    while not lanes.ready():  # noqa: ASYNC110  readiness is a condition over all lanes, not one event
        await asyncio.sleep(0.02)
    on_ready()


async def _wait_for_crash(app: RoleApp, lanes: Lanes, stop: asyncio.Event) -> None:
    """Faust marks its services as crashed and waits to be asked; we ask."""
    while not stop.is_set():
        if app.crashed or app.should_stop:
            lanes.fail(app.crash_reason or RuntimeError("the Faust app stopped by itself"))
            return
        await asyncio.sleep(0.2)


async def _stop_app(app: RoleApp) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await app.stop()
    except TimeoutError:
        log.warning("worker stopped the hard way", waited_s=STOP_TIMEOUT_S)


def _on_start_done(task: asyncio.Task[None], lanes: Lanes) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        lanes.fail(error)


def _on_side_done(task: asyncio.Task[None], lanes: Lanes, stop: asyncio.Event) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        lanes.fail(error)
    elif not stop.is_set():
        lanes.fail(RuntimeError("the services stopped by themselves"))
