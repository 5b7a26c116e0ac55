"""The provider in memory: runs that take their time and end somehow, webhooks that come late, twice or never."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from models.errors import ProviderBusy, ProviderRefused, ProviderSilent
from models.provider_work import PREDICTIONS, TRAININGS, Work, provider_input
from simulation.fakes.kafka import BASE_MS
from simulation.net import Process

CALL_TIMEOUT_S = 2.0
LATE_MAX_S = (3.0, 15.0)
"""Most often within the time in which nobody tries again, sometimes later."""
PAGE = 5

Deliver = Callable[[dict[str, str], dict[str, Any]], Awaitable[None]]


@dataclass
class Run:
    """One run. `fate` is how it will end if nobody stops it: succeeded, failed, empty or never."""

    run_id: str
    collection: str
    webhook: str
    given: dict[str, Any]
    created_s: float
    fate: str
    status: str = "starting"
    output: Any = None

    @property
    def identity(self) -> tuple[str, str]:
        """The request that its webhook names."""
        query = parse_qs(urlsplit(self.webhook).query)
        return query["user"][0], query["request"][0]

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.status in ("succeeded", "failed", "canceled")

    def body(self) -> dict[str, Any]:
        """What the provider says of it."""
        created_at = datetime.fromtimestamp(BASE_MS / 1000 + self.created_s, UTC).isoformat()
        body = {"id": self.run_id, "status": self.status, "output": self.output, "created_at": created_at}
        return body | {"input": self.given, "webhook": self.webhook}


@dataclass
class ProviderState:
    """All runs, and how often what goes wrong, as chances from 0 to 1."""

    dice: random.Random
    deliver: Deliver
    rates: dict[str, float] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def happens(self, what: str) -> bool:
        """Whether this goes wrong now."""
        return self.dice.random() < self.rates.get(what, 0.0)

    def spawn(self, work: Any) -> None:
        """Let it happen beside everything else."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def begin(self, work: Work, webhook: str) -> Run:
        """Make a run and let it go its way."""
        fate = next((name for name in ("failed", "empty", "never") if self.happens(name)), "succeeded")
        run = Run(
            f"run{len(self.runs)}",
            work.collection,
            webhook,
            provider_input(work),
            asyncio.get_running_loop().time(),
            fate,
        )
        self.runs[run.run_id] = run
        self.spawn(self._live(run))
        return run

    async def _live(self, run: Run) -> None:
        await asyncio.sleep(self.dice.random())
        self.change(run, "processing")
        await asyncio.sleep(self.dice.random() * self.dice.choice([0.3, 2.0, 8.0]))
        if run.fate != "never":
            self.change(run, "failed" if run.fate == "failed" else "succeeded")

    def change(self, run: Run, status: str) -> None:
        """The run goes on; its webhook says so."""
        if run.is_over:
            return
        run.status = status
        if status == "succeeded" and run.fate != "empty":
            run.output = self._output(run)
        self.spawn(self._report(run, run.body()))

    def _output(self, run: Run) -> Any:
        if run.collection == TRAININGS:
            return {"version": f"made-by-{run.run_id}"}
        count = run.given.get("num_outputs", 1)
        # What is lost, is lost for good: its address says so.
        return [f"https://out/{run.run_id}/{n}{'/lost' if self.happens('lost') else ''}" for n in range(count)]

    async def _report(self, run: Run, body: dict[str, Any]) -> None:
        if self.happens("webhook_lost"):
            return
        query = dict(zip(("user", "request"), run.identity, strict=True))
        for _ in range(2 if self.happens("webhook_twice") else 1):
            await asyncio.sleep(self.dice.random() * (6.0 if self.happens("webhook_late") else 0.05))
            await self.deliver(query, body)


class FakeProvider:
    """One process's client."""

    def __init__(self, state: ProviderState, process: Process) -> None:
        self._state = state
        self._process = process

    async def create(self, work: Work, webhook: str) -> dict[str, Any]:
        """Start a run, or not, and say so, or not."""
        state = self._state
        await self._process.hop()
        if state.happens("busy"):
            raise ProviderBusy("busy", 0.5 if state.happens("throttled") else None)
        if state.happens("refused"):
            state.refused.add(work.identity)
            await self._process.hop()
            raise ProviderRefused("not this one")
        if state.happens("late"):
            state.spawn(self._begin_late(work, webhook))
            await asyncio.sleep(CALL_TIMEOUT_S)
            await self._process.settle()
            raise ProviderSilent("no answer")
        if state.happens("not_sent"):
            await self._process.hop()
            raise ProviderSilent("no answer", is_over=True)
        run = state.begin(work, webhook)
        body = run.body()
        await self._process.hop()
        if state.happens("answer_lost"):
            raise ProviderSilent("no answer", is_over=state.dice.random() < 0.5)
        return body

    async def _begin_late(self, work: Work, webhook: str) -> None:
        await asyncio.sleep(self._state.dice.random() * self._state.dice.choice(LATE_MAX_S))
        self._state.begin(work, webhook)

    async def get(self, prediction_id: str, collection: str = PREDICTIONS) -> dict[str, Any]:
        """A run's body."""
        await self._answered()
        return self._run(prediction_id).body()

    async def list_page(
        self, cursor: str | None, collection: str = PREDICTIONS
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Runs, newest first."""
        await self._answered()
        runs = [run for run in reversed(self._state.runs.values()) if run.collection == collection]
        # New runs move the pages on: a cursor is a run, as the provider's is.
        names = [run.run_id for run in runs]
        start = 0 if cursor is None else names.index(cursor) + 1
        page = runs[start : start + PAGE]
        return [run.body() for run in page], page[-1].run_id if start + PAGE < len(runs) else None

    async def cancel(self, prediction_id: str, collection: str = PREDICTIONS) -> None:
        """Stop a run."""
        await self._answered()
        self._state.change(self._run(prediction_id), "canceled")

    async def close(self) -> None:
        """Nothing is held."""

    async def _answered(self) -> None:
        await self._process.hop()
        if self._state.happens("busy"):
            raise ProviderBusy("busy")

    def _run(self, prediction_id: str) -> Run:
        run = self._state.runs.get(prediction_id)
        if run is None:
            raise ProviderRefused("no such run")
        return run
