"""The fulfilment role's services: loops that claim, beside each other, until told to stop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from adapters.blobs import open_blobs
from adapters.downloads import Downloads
from adapters.postgres import Pool
from adapters.provider import ReplicateProvider
from models.errors import ProviderBusy, Unavailable
from models.provider_work import Models
from services.dispatcher import Dispatcher
from services.hands import Hands
from services.keeper import Keeper
from services.metrics import IN_HAND, TROUBLES
from services.reconciler import Reconciler
from services.sweeper import Sweeper
from streams.facts import FactPublisher, Sending
from streams.settings import Settings

log = structlog.get_logger()

BUSY_S = 0.03
TROUBLE_FIRST_S = 0.2
TROUBLE_MAX_S = 5.0
DRAIN_S = 6.0
STOP_S = 8.0


class Service(Protocol):
    """Something that claims work, round by round."""

    name: str
    idle_s: float
    """The longest pause between two looks when there is nothing to do."""
    hands: Hands

    async def tick(self) -> int:
        """Claim and begin one round; returns its size. Raises Unavailable or ProviderBusy: look again later."""


async def run_service(service: Service, stop: asyncio.Event) -> None:
    """Run one service's rounds until `stop`; then end what is in hand, within DRAIN_S.

    Raises what a round or a piece of work did not expect: the worker must stop.
    """
    pause_s = BUSY_S
    try:
        while not stop.is_set():
            service.hands.check()
            try:
                claimed = await service.tick()
                # A short pause after a round lets rows gather; an empty look makes the next one later.
                pause_s = BUSY_S if claimed else min(pause_s * 2, service.idle_s)
            except (Unavailable, ProviderBusy) as error:
                TROUBLES.labels(service.name).inc()
                pause_s = min(max(pause_s * 2, TROUBLE_FIRST_S), TROUBLE_MAX_S)
                log.warning("service waits", service=service.name, why=str(error), wait_s=round(pause_s, 2))
            IN_HAND.labels(service.name).set(service.hands.busy)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()
        await service.hands.drain(DRAIN_S)
    finally:
        await service.hands.cancel()


async def run_services(settings: Settings, pool: Pool, publisher: Sending, stop: asyncio.Event) -> None:
    """Run dispatcher, reconciler, keeper and sweeper until `stop`; ends within STOP_S of it.

    Raises BadSetting, and what a service did not expect, after the others were stopped.
    """
    async with AsyncExitStack() as closing:
        provider = ReplicateProvider(
            api_token=settings.replicate_api_token,
            base_url=settings.replicate_base_url,
            timeout_s=settings.provider_timeout_s,
            training_destination=settings.training_destination,
        )
        closing.push_async_callback(provider.close)
        downloads = Downloads(allowed_hosts=settings.download_hosts, trusted_hosts=trusted_hosts(settings))
        closing.push_async_callback(downloads.close)
        blobs = open_blobs(settings.blob_location)
        keeper = Keeper(pool, blobs, downloads, FactPublisher(publisher, "keeper"))
        closing.callback(keeper.close)
        sweeper = Sweeper(pool, blobs, grace_s=settings.sweep_grace_s)
        dispatcher = Dispatcher(
            pool,
            provider,
            FactPublisher(publisher, "dispatcher"),
            models=Models(settings.default_model, settings.video_model, settings.trainer),
            webhook_base_url=settings.webhook_base_url,
            per_minute=settings.provider_per_minute,
            per_hour_max=settings.provider_per_hour,
            timeout_s=settings.provider_timeout_s,
            start_window_s=settings.provider_start_window_s,
            poll_after_s=settings.provider_poll_after_s,
        )
        reconciler = Reconciler(
            pool,
            provider,
            FactPublisher(publisher, "reconciler"),
            timeout_s=settings.provider_timeout_s,
            poll_after_s=settings.provider_poll_after_s,
        )
        await run_together([dispatcher, reconciler, keeper, sweeper], stop)


async def run_together(services: list[Service], stop: asyncio.Event) -> None:
    """Run services beside each other; the first that fails stops all and is raised."""
    everyone_stops = asyncio.Event()
    tasks = [asyncio.create_task(run_service(service, everyone_stops), name=service.name) for service in services]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        everyone_stops.set()
        await asyncio.wait(tasks, timeout=STOP_S)
    finally:
        for task in (stopping, *tasks):
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
            raise outcome


def trusted_hosts(settings: Settings) -> tuple[str, ...]:
    """Hosts that may be private: a provider that somebody has set by hand serves its outputs itself."""
    host = urlsplit(settings.replicate_base_url).hostname
    return (host,) if host else ()
