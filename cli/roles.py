"""What each worker role is made of: the one place where agents, services and adapters are put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from enum import StrEnum

from adapters.credit_cache import CreditCache
from adapters.credit_fills import balances_from
from adapters.postgres import Pool, close_pool, open_pool
from agents.admit import AdmitStep
from agents.cache import CacheProjector
from agents.cancel import CancelStep
from agents.gallery import GalleryStep
from agents.generate import GenerateStep
from agents.grants import GrantsStep
from agents.settle import SettleStep
from models.errors import SetupFailed, Unavailable
from services.backlog import Backlog
from services.runner import run_services, run_together
from services.sampler import Sampler
from streams.app import RoleApp, role_app
from streams.delivery import Delivery, Step
from streams.ends import TopicEnds
from streams.lag import Lag
from streams.limits import LimitsTail
from streams.metrics import observe_step
from streams.projection import Projection
from streams.publisher import Publisher
from streams.scrapes import Refresh
from streams.settings import Settings
from streams.topics import check_topics
from streams.worker import run_worker

TOPIC_CHECKS_MAX = 60
PROJECTIONS_POOL_MAX = 4

Beside = Callable[[asyncio.Event], Coroutine[None, None, None]]


class Role(StrEnum):
    """What a worker process does. Each role is a consumer group of its own."""

    ADMISSION = "admission"
    FULFILMENT = "fulfilment"
    PROJECTIONS = "projections"


async def run_role(role: Role, settings: Settings) -> int:
    """Run one role until TERM; returns the exit code.

    Raises SetupFailed: the topics are not as the registry says. Unavailable: Kafka has been away for a minute.
    """
    await wait_for_topics(settings)
    bootstrap, client_id = settings.require("kafka"), f"darkroom-{role}"
    async with AsyncExitStack() as closing:
        publisher = Publisher(bootstrap, client_id=client_id, topic_prefix=settings.topic_prefix)
        closing.push_async_callback(publisher.close)
        app = role_app(role, settings)
        size_max = settings.postgres_pool_max
        if role is Role.PROJECTIONS:
            size_max = min(size_max, PROJECTIONS_POOL_MAX)
        pool = await open_pool(settings.require("postgres"), size_max=size_max, application=client_id)
        closing.push_async_callback(close_pool, pool)
        ends = TopicEnds(bootstrap, f"{client_id}-ends")
        closing.push_async_callback(ends.close)
        refreshes: list[Refresh] = [Lag(role, app.lanes, ends.ask, settings.topic_prefix).refresh]
        steps: list[Step] = []
        match role:
            case Role.ADMISSION:
                limits = LimitsTail(settings)
                steps = [AdmitStep(settings.partitions, limits.now), GrantsStep(settings.partitions)]
                beside: Beside = limits.run
            case Role.FULFILMENT:
                steps = [
                    GenerateStep(),
                    SettleStep(),
                    GalleryStep(settings.images_url),
                    CancelStep(settings.partitions),
                ]
                beside = _services(settings, pool, publisher)
                refreshes.append(Backlog(pool).refresh)
            case Role.PROJECTIONS:
                cache = CreditCache(settings.require("redis"))
                closing.push_async_callback(cache.close)
                projection = Projection(CacheProjector(cache, balances_from(pool)), publisher)
                app.lane_agent("cache", settings.topic_prefix + CacheProjector.topic, projection)
                beside = _sampler(cache, pool)
        for step in steps:
            add_step(app, step, settings, pool, publisher)
        return await run_worker(
            app,
            role=role,
            metrics_port=settings.metrics_port,
            metrics_host=settings.metrics_host,
            step_timeout_s=settings.step_timeout_s,
            on_ready=lambda address: print(f"{role} health on {address}\nready", flush=True),  # noqa: T201
            beside=beside,
            refreshes=refreshes,
        )


def add_step(app: RoleApp, step: Step, settings: Settings, pool: Pool, publisher: Publisher) -> None:
    """Run a step on every partition of its topic that this worker owns."""
    delivery = Delivery(step, pool, publisher, on_step=observe_step)
    app.lane_agent(step.stream, settings.topic_prefix + step.topic, delivery)


def _services(settings: Settings, pool: Pool, publisher: Publisher) -> Beside:
    return lambda stop: run_services(settings, pool, publisher, stop)


def _sampler(cache: CreditCache, pool: Pool) -> Beside:
    return lambda stop: run_together([Sampler(cache, balances_from(pool))], stop)


async def wait_for_topics(settings: Settings) -> None:
    """Wait for Kafka, then insist on the registry's topics: a worker that creates its own would split users.

    Raises SetupFailed, Unavailable.
    """
    for checks in range(1, TOPIC_CHECKS_MAX + 1):
        try:
            problems = await check_topics(settings)
        except Unavailable:
            if checks == TOPIC_CHECKS_MAX:
                raise
            await asyncio.sleep(1.0)
            continue
        if problems:
            more = f" (and {len(problems) - 1} more: `darkroom topics check`)" if len(problems) > 1 else ""
            raise SetupFailed(problems[0] + more)
        return
