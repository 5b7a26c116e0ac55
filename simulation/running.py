"""One run from its plan to its verdict, and the shortest plan that still fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

import simulation.statements.admission
import simulation.statements.fulfilment
import simulation.statements.leases
import simulation.statements.work  # noqa: F401  each registers what its queries do
from simulation.loop import Stalled, run_virtually
from simulation.oracle.judge import judge
from simulation.plan import Plan
from simulation.world import World


@contextmanager
def silence() -> Iterator[None]:
    """The code under test logs every fault; here faults are the rule."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def run_plan(plan: Plan) -> tuple[World, list[str]]:
    """Run it: (the world at rest, what is wrong)."""
    world: World | None = None

    async def main() -> World:
        nonlocal world
        world = World(plan)
        await world.run()
        return world

    try:
        done = run_virtually(main())
    except Stalled as stalled:
        assert world is not None
        return world, [str(stalled)]
    return done, judge(done)


def shortest(plan: Plan, *, seconds: float = 60.0, fails: Callable[[Plan], bool] | None = None) -> Plan:
    """Leave out items as long as the run still fails: halves first, then smaller and smaller parts."""
    fails = fails or (lambda shorter: bool(run_plan(shorter)[1]))
    until = time.monotonic() + seconds
    items = plan.items
    size = max(1, len(items) // 2)
    while time.monotonic() < until:
        at, before = 0, len(items)
        while at < len(items) and time.monotonic() < until:
            shorter = items[:at] + items[at + size :]
            if shorter and fails(plan._replace(items=shorter)):
                items = shorter
            else:
                at += size
        if size == 1 and len(items) == before:
            break
        size = max(1, size // 2)
    return plan._replace(items=items)
