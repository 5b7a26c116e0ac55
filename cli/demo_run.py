"""The demo's traffic while it runs: credits, requests at a steady pace, and what comes back on the topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import msgspec

from cli.children import check_alive
from cli.demo_system import System
from cli.demo_tally import Finished, Tally
from cli.demo_traffic import Wish
from models.accounts import CreditsChanged
from models.errors import SetupFailed
from models.outputs import Record
from models.topics import ADMITTED, COMPLETED, CREDITS, FAILED, PREDICTIONS, REJECTED, STORED
from streams.producer import Producer, new_grant, new_request
from streams.reading import Reader

TOPICS = (ADMITTED, REJECTED, PREDICTIONS, STORED, COMPLETED, FAILED, CREDITS)
GRANT_CREDITS = 100
# Below this a user gets another grant.
LOW_CREDITS = 30
GRANTS_TIMEOUT_S = 60.0
IN_FLIGHT_MAX = 400
SENDING_MAX = 100
_READ_S = 0.25


class Run:
    """One run of the demo against a running system."""

    def __init__(self, system: System, users: list[str], run: str, on_finished: Callable[[Finished], None]) -> None:
        self.tally = Tally()
        self.began_at = 0.0
        self.ended_at = 0.0
        self.stop = asyncio.Event()
        self._system = system
        self._users = users
        self._run = run
        self._on_finished = on_finished
        self._balances: dict[str, tuple[int, int]] = {}
        self._numbers = count(1)
        self._grants = {user_id: count(1) for user_id in users}
        self._granting: set[str] = set()

    async def follow(self, wishes: Iterator[Wish], *, requests: int | None, per_s: float, timeout_s: float) -> None:
        """Send `requests` wishes (None: until stopped), `per_s` a second, and return when all have ended.

        Gives up `timeout_s` after the last was sent. Raises Unavailable, ChildEnded; SetupFailed when credits
        that were given are not booked.
        """
        async with Reader(self._system.settings, TOPICS) as reader, Producer(self._system.settings) as producer:
            await reader.start_at_end()
            reading = asyncio.create_task(self._read(reader))
            working = asyncio.create_task(self._work(producer, wishes, requests, per_s, timeout_s))
            watching = asyncio.create_task(self._watch())
            stopping = asyncio.create_task(self.stop.wait())
            tasks: set[asyncio.Task[Any]] = {reading, working, watching, stopping}
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            self.ended_at = self.ended_at or time.monotonic()
            for task in done:
                task.result()

    @property
    def seconds(self) -> float:
        """From the first request to the end of the last, or until now."""
        return (self.ended_at or time.monotonic()) - self.began_at if self.began_at else 0.0

    async def _work(
        self, producer: Producer, wishes: Iterator[Wish], requests: int | None, per_s: float, timeout_s: float
    ) -> None:
        await self._give_credits(producer)
        self.began_at = time.monotonic()
        sending: set[asyncio.Task[Any]] = set()
        for number in count() if requests is None else range(requests):
            await asyncio.sleep(self.began_at + number / per_s - time.monotonic())
            while self.tally.in_flight >= IN_FLIGHT_MAX or len(sending) >= SENDING_MAX:
                await asyncio.sleep(0.1)
                _raise_failures(sending)
            task = asyncio.create_task(self._send(producer, next(wishes)))
            sending.add(task)
            _raise_failures(sending)
        await asyncio.gather(*sending)
        deadline = time.monotonic() + timeout_s
        while self.tally.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110  a condition over all requests
            await asyncio.sleep(0.02)
        self.ended_at = time.monotonic()

    async def _send(self, producer: Producer, wish: Wish) -> None:
        if self._balances[wish.user_id][1] < LOW_CREDITS and wish.user_id not in self._granting:
            self._granting.add(wish.user_id)
            await self._grant(producer, wish.user_id)
        request_id = f"demo-{self._run}-{next(self._numbers)}"
        request = new_request(wish.user_id, wish.operation, wish.prompt, request_id=request_id, seed=wish.seed)
        self.tally.ask(request_id, wish)
        await producer.request(request)

    async def _give_credits(self, producer: Producer) -> None:
        """Requests and grants have no order between them, so wait until every grant is booked."""
        await asyncio.gather(*(self._grant(producer, user_id) for user_id in self._users))
        deadline = time.monotonic() + GRANTS_TIMEOUT_S
        while len(self._balances) < len(self._users):
            if time.monotonic() > deadline:
                raise SetupFailed(
                    f"credits were not booked within {GRANTS_TIMEOUT_S:.0f} s; "
                    f"look into {self._system.settings.home / 'logs' / 'worker-admission.log'}"
                )
            await asyncio.sleep(0.02)

    async def _grant(self, producer: Producer, user_id: str) -> None:
        grant_id = f"demo-{self._run}-{user_id}-{next(self._grants[user_id])}"
        await producer.grant(new_grant(user_id, GRANT_CREDITS, "bonus", grant_id=grant_id))

    async def _read(self, reader: Reader) -> None:
        while True:
            for topic, record in await reader.read(_READ_S):
                if topic == CREDITS:
                    self._see_balance(record)
                    continue
                finished = self.tally.see(topic, msgspec.json.decode(record.value or b"{}"), record.timestamp)
                if finished is not None:
                    self._on_finished(finished)

    def _see_balance(self, record: Record) -> None:
        change = msgspec.json.decode(record.value or b"{}", type=CreditsChanged)
        if change.user_id not in self._grants:
            return
        if change.version > self._balances.get(change.user_id, (0, 0))[0]:
            self._balances[change.user_id] = (change.version, change.balance)
        if change.cause.kind == "bonus":
            self._granting.discard(change.user_id)

    async def _watch(self) -> None:
        while True:
            check_alive(self._system.processes)
            await asyncio.sleep(0.5)


def _raise_failures(sending: set[asyncio.Task[Any]]) -> None:
    for task in [task for task in sending if task.done()]:
        sending.discard(task)
        task.result()
