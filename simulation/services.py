"""The fulfilment role's services in a simulated worker: the production ones, but for the bytes of pictures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from unittest import mock

import msgspec

import agents.cache
from adapters import credit_cache, credit_fills, credit_reads
from gateway.webhooks import fact_in
from models.errors import Unavailable
from models.facts import StoredImage
from models.operations import OPERATIONS
from models.pictures import OutputLost
from models.provider_work import Models
from services import dispatcher, keeper, reconciler
from services.dispatcher import Dispatcher
from services.keeper import Keeper
from services.reconciler import Reconciler
from services.runner import Service
from simulation.fakes.kafka import BASE_MS
from simulation.fakes.provider import CALL_TIMEOUT_S, FakeProvider, ProviderState
from simulation.worker import Worker
from streams.facts import FactPublisher

DEADLINE_S = 40.0
IDLE_S = 2.5
MODELS = Models("maker/pictures", "maker/videos", "maker/trainer:1")


class VirtualTime:
    """`time`, as the running loop tells it."""

    @staticmethod
    def time() -> float:
        """Virtual seconds since the epoch."""
        return BASE_MS / 1000 + asyncio.get_running_loop().time()

    @staticmethod
    def monotonic() -> float:
        """Virtual seconds."""
        return asyncio.get_running_loop().time()


@contextmanager
def virtual_services(dice: random.Random) -> Iterator[None]:
    """Within it services take time from the loop and chance from the seed."""
    changes: list[tuple[Any, str, Any]] = [
        (module, name, value)
        for module in (dispatcher, keeper, reconciler, credit_cache, credit_fills, credit_reads, agents.cache)
        for name, value in (("time", VirtualTime), ("random", dice))
        if hasattr(module, name)
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class SimulatedKeeper(Keeper):
    """Keeps names instead of bytes."""

    def __init__(self, worker: Worker, state: ProviderState, objects: set[str]) -> None:
        with mock.patch.object(keeper, "ThreadPoolExecutor"):
            super().__init__(
                worker.pool,  # type: ignore[arg-type]
                None,  # type: ignore[arg-type]
                None,  # type: ignore[arg-type]
                FactPublisher(worker.publisher, "keeper"),
            )
        self.idle_s = IDLE_S
        self._process = worker.process
        self._state = state
        self._objects = objects

    async def _keep_picture(self, index: int, url: str) -> StoredImage:
        return await self._kept(index, url, "images", "image/jpeg", "jpg")

    async def _keep_video(self, index: int, url: str) -> StoredImage:
        return await self._kept(index, url, "videos", "video/mp4", "mp4")

    async def _kept(self, index: int, url: str, folder: str, content_type: str, extension: str) -> StoredImage:
        await self._process.hop()
        if url.endswith("/lost"):
            raise OutputLost("gone", "it is not there any more")
        if self._state.happens("download"):
            raise Unavailable("the output", "it did not come")
        digest = sha256(url.encode()).hexdigest()
        key = f"{folder}/{digest[:2]}/{digest}.{extension}"
        thumbnail_key = f"thumbnails/{digest[:2]}/{digest}.webp" if folder == "images" else ""
        self._objects.update({key, thumbnail_key} - {""})
        await self._process.hop()
        return StoredImage(index, key, thumbnail_key, 8, 8, content_type, 100, digest)


def services_of(worker: Worker, state: ProviderState, objects: set[str]) -> list[Service]:
    """What runs beside the agents of one worker."""
    provider, deadlines_s = FakeProvider(state, worker.process), dict.fromkeys(OPERATIONS, DEADLINE_S)
    dispatching = Dispatcher(
        worker.pool,  # type: ignore[arg-type]
        provider,
        FactPublisher(worker.publisher, "dispatcher"),
        models=MODELS,
        webhook_base_url="https://gateway",
        per_minute=600,
        per_hour_max=0,
        timeout_s=CALL_TIMEOUT_S,
        start_window_s=6.0,
        poll_after_s=4.0,
        deadlines_s=deadlines_s,
    )
    reconciling = Reconciler(
        worker.pool,  # type: ignore[arg-type]
        provider,
        FactPublisher(worker.publisher, "reconciler"),
        timeout_s=CALL_TIMEOUT_S,
        poll_after_s=4.0,
        deadlines_s=deadlines_s,
    )
    dispatching.idle_s = reconciling.idle_s = IDLE_S
    return [dispatching, reconciling, SimulatedKeeper(worker, state, objects)]


class Gateway:
    """Takes webhooks as the gateway does: what could not be published is sent again by the provider."""

    def __init__(self, publisher: Any) -> None:
        self._facts = FactPublisher(publisher, "gateway")

    async def deliver(self, query: dict[str, str], body: dict[str, Any]) -> None:
        """One webhook, tried a few times."""
        for pause_s in (0.5, 2.0, None):
            try:
                await self._facts.prediction(fact_in(query, msgspec.json.encode(body)))
                return
            except Unavailable:
                if pause_s is None:
                    return
                await asyncio.sleep(pause_s)
