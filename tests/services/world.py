"""A small world for the services: real rows, the real provider client, a real emulator, the real settling step.

Kafka's place is taken by a publisher that hands facts straight to the agents' steps; what Kafka adds is tested
elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import httpx
import msgspec

from adapters.blobs import ObjectBlobs, open_blobs
from adapters.downloads import PICTURE, VIDEO, Downloads
from adapters.postgres import Pool, transaction
from adapters.provider import Provider, ReplicateProvider
from agents.cancel import CancelStep
from agents.gallery import GalleryStep
from agents.settle import SettleStep
from models.cancelling import CancelRequested, Decision
from models.errors import Unavailable
from models.facts import read_prediction, read_stored
from models.operations import OPERATIONS
from models.outputs import Header
from models.provider_work import Models
from models.topics import PREDICTIONS
from services.dispatcher import Dispatcher
from services.keeper import Keeper
from services.reconciler import Reconciler
from services.runner import Service, run_together
from services.sweeper import Sweeper
from streams.delivery import Batch
from streams.facts import FactPublisher
from tests.support.waiting import eventually
from tests.unit.records import FakeRecord

MODELS = Models("emulator/flux", "emulator/video", "emulator/trainer:v1")


@dataclass
class Settling:
    """A publisher whose records are settled at once, by the agents' own steps."""

    pool: Pool
    settles: bool = True
    is_away: bool = False
    sent: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    _offsets: itertools.count[int] = field(default_factory=itertools.count)

    async def send(
        self, topic: str, key: bytes | None, value: bytes, headers: Sequence[Header] = ()
    ) -> tuple[int, int]:
        if self.is_away:
            raise Unavailable("Kafka", "it is away, says the test")
        self.sent.append((topic, msgspec.json.decode(value), dict(headers)["ce_id"].decode()))
        offset = next(self._offsets)
        if self.settles:
            step: Any = SettleStep() if topic == PREDICTIONS else GalleryStep("http://pictures/")
            fact: Any = read_prediction(value) if topic == PREDICTIONS else read_stored(value)
            record = FakeRecord(offset=offset, key=key, value=value)
            async with transaction(self.pool) as held:
                await step.apply(held, Batch(0, [record], [fact], (), 0))
        return 0, offset

    def statuses(self, request_id: str) -> list[tuple[str, str]]:
        """(status, source) of the facts about a request's prediction, in order."""
        return [
            (fact["status"], fact["source"])
            for topic, fact, _ in self.sent
            if topic == PREDICTIONS and fact["request_id"] == request_id
        ]


@dataclass
class World:
    """Everything that a test of the services needs."""

    pool: Pool
    provider: Provider
    emulator_url: str
    publisher: Settling
    blobs: ObjectBlobs
    downloads: Downloads
    timeout_s: float
    webhook_base_url: str = "http://127.0.0.1:9"

    async def queue(self, user_id: str, *request_ids: str, **columns: Any) -> None:
        """Queued requests, as generate leaves them; `columns` differ from the usual."""
        for request_id in request_ids:
            row = {
                "user_id": user_id,
                "request_id": request_id,
                "operation": "maya.image",
                "state": "queued",
                "cost": 1,
                "balance": 9,
                "version": 1,
                "prompt": f"a lake in the morning, {request_id}",
                "options": "{}",
                "partition": 0,
            } | {name: value for name, value in columns.items() if name != "age_s"}
            places = ", ".join(f"${index}" for index in range(1, len(row) + 1))
            moment = f"now() - interval '{columns.get('age_s', 0)} s'"
            await self.pool.execute(
                f"INSERT INTO generations ({', '.join(row)}, admitted_at, queued_at, due_at, storing_at)"
                f" VALUES ({places}, {moment}, {moment}, {moment}, {moment})",
                *row.values(),
            )
        await self.pool.execute(
            "INSERT INTO accounts (user_id, balance, version) VALUES ($1, 9, 1) ON CONFLICT DO NOTHING", user_id
        )

    async def cancel(self, user_id: str, request_id: str) -> Decision:
        """What the cancelling step makes of a user's wish."""
        wish = CancelRequested(request_id, user_id)
        async with transaction(self.pool) as held:
            (decision,), _ = await CancelStep(1).apply(held, Batch(0, [FakeRecord(b"")], [wish], (), 0))
        return decision

    async def row(self, user_id: str, request_id: str) -> asyncpg.Record:
        row = await self.pool.fetchrow(
            "SELECT * FROM generations WHERE user_id = $1 AND request_id = $2", user_id, request_id
        )
        assert row is not None
        return row

    async def state(self, user_id: str, request_id: str) -> str:
        return str((await self.row(user_id, request_id))["state"])

    async def states(self) -> dict[str, int]:
        rows = await self.pool.fetch("SELECT state, count(*) AS n FROM generations GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    def dispatcher(self, **changed: Any) -> Dispatcher:
        options: dict[str, Any] = {
            "models": MODELS,
            "webhook_base_url": self.webhook_base_url,
            "per_minute": 100_000,
            "per_hour_max": 0,
            "timeout_s": self.timeout_s,
            "start_window_s": 0.2,
            "poll_after_s": 0.3,
        } | with_deadlines(changed)
        return Dispatcher(self.pool, self.provider, FactPublisher(self.publisher, "dispatcher"), **options)

    def reconciler(self, **changed: Any) -> Reconciler:
        options: dict[str, Any] = {"timeout_s": self.timeout_s, "poll_after_s": 0.3} | with_deadlines(changed)
        return Reconciler(self.pool, self.provider, FactPublisher(self.publisher, "reconciler"), **options)

    def keeper(self, **changed: Any) -> Keeper:
        return Keeper(self.pool, self.blobs, self.downloads, FactPublisher(self.publisher, "keeper"), **changed)

    def sweeper(self, **changed: Any) -> Sweeper:
        return Sweeper(self.pool, self.blobs, **({"grace_s": 7200.0, "every_s": 0.0} | changed))

    @asynccontextmanager
    async def running(self, *services: Service) -> AsyncIterator[None]:
        """These services, until the block ends; what breaks in them breaks the test."""
        stop = asyncio.Event()
        task = asyncio.create_task(run_together(list(services), stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def counts(self) -> dict[str, Any]:
        """What the emulator was asked to run."""
        async with httpx.AsyncClient() as client:
            answer: dict[str, Any] = (await client.get(f"{self.emulator_url}/emulator/counts")).json()
            return answer

    async def runs_of(self, user_id: str, request_id: str) -> int:
        return len((await self.counts())["requests"].get(f"{user_id}/{request_id}", []))


def with_deadlines(options: dict[str, Any]) -> dict[str, Any]:
    """`deadline_s` is the same for every operation."""
    deadline_s = options.pop("deadline_s", None)
    return options if deadline_s is None else options | {"deadlines_s": dict.fromkeys(OPERATIONS, deadline_s)}


async def until(condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 15.0) -> None:
    """Wait for a condition; fails saying that `what` did not happen."""
    await eventually(condition, timeout_s, f"not seen: {what}")


def downloads_within(timeout_s: float) -> Downloads:
    """Downloads from the emulator, each within this time."""
    return Downloads(
        allowed_hosts=(),
        trusted_hosts=("127.0.0.1",),
        picture=replace(PICTURE, timeout_s=timeout_s),
        video=replace(VIDEO, timeout_s=timeout_s),
    )


@asynccontextmanager
async def world_on(database_url: str, emulator_url: str, blobs: str, *, timeout_s: float = 0.6) -> AsyncIterator[World]:
    """A world on a migrated, empty database. `timeout_s` is how long the provider may take to answer."""
    pool = await asyncpg.create_pool(database_url, min_size=0, max_size=8)
    provider = ReplicateProvider(
        api_token="r8_test", base_url=emulator_url, timeout_s=timeout_s, training_destination="emulator/trained"
    )
    downloads = downloads_within(5.0)
    try:
        yield World(pool, provider, emulator_url, Settling(pool), open_blobs(blobs), downloads, timeout_s)
    finally:
        await provider.close()
        await downloads.close()
        await pool.close()
