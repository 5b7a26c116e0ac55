"""A worker process: the production lanes, delivery and steps, fed by a consumer on the in-memory broker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from adapters.credit_fills import balances_from
from agents.cache import CacheProjector
from models.errors import Fenced, Unavailable
from models.limits import Policies
from models.topics import LIMITS
from simulation.fakes.kafka import Broker
from simulation.fakes.postgres import FakePool
from simulation.fakes.publisher import SimulatedPublisher
from simulation.fakes.redis import FakeCreditCache, Keyspace
from simulation.fakes.tables import Store
from simulation.net import Process
from streams.delivery import Delivery, Step
from streams.lanes import Lanes, TopicPartition
from streams.projection import Projection

RECORDS_MAX = 6
FETCHED_MAX = 5
GRACE_S = 4.0
SLOWNESS_S = (0.002, 0.01, 0.05)

Steps = Callable[[int, Callable[[], Mapping[str, Any]]], Sequence[Step]]


class Worker:
    """One life of one worker. After a crash another one begins; nothing of this one does."""

    def __init__(self, name: str, broker: Broker, store: Store, steps: Steps, dice: random.Random) -> None:
        self.process = Process(name, dice)
        self.process.slowness_s = dice.choice(SLOWNESS_S)
        self.broker = broker
        self.pool = FakePool(store, self.process)
        self.publisher = SimulatedPublisher(broker, self.process)
        self.lanes = Lanes(records_max=RECORDS_MAX, bytes_max=1 << 20)
        self._policies = Policies()
        self._knows_limits = False
        self.failure: BaseException | None = None
        self.lanes.on_failure = self._note
        self._limits_read = [0] * broker.partitions
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        for step in steps(broker.partitions, self.policies_now):
            self.lanes.add(step.topic, Delivery(step, self.pool, self.publisher))  # type: ignore[arg-type]
        self.lanes.attach(self)

    def project(self, keyspace: Keyspace) -> None:
        """Bring the cache up to every balance change, beside the steps."""
        self.cache = FakeCreditCache(keyspace, self.process)
        projector = CacheProjector(self.cache, balances_from(self.pool))  # type: ignore[arg-type]
        self.lanes.add(projector.topic, Projection(projector, self.publisher))

    def policies_now(self) -> Policies:
        """The limits that this worker knows of. Raises Unavailable: it has not read them yet."""
        if not self._knows_limits:
            raise Unavailable("the topic of limits", "it has not been read to its end yet")
        return self._policies

    def start(self) -> None:
        """Begin to fetch."""
        self.begin(self._fetch(), self._follow_limits())

    def begin(self, *works: Any) -> None:
        """Run something in this process."""
        for work in works:
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def crash(self) -> None:
        """Die here and now."""
        self.process.kill()
        self.pool.cut()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """What a rebalance gives this worker. Reading begins somewhere: the seek will mend it."""
        partitions = list(partitions)
        for tp in partitions:
            is_committed = tp.topic == CacheProjector.topic
            end = self.broker.committed.get(tp, 0) if is_committed else len(self.broker.log(*tp))
            self._positions[tp] = end if is_committed else self.process.dice.randint(0, end)
        self.lanes.assign(partitions)

    async def revoke(self) -> None:
        """Leave everything in good order."""
        self.broker.committed.update(await self.lanes.revoke(list(self.lanes.here), GRACE_S))

    def is_idle(self) -> bool:
        """Whether all that has come is handled."""
        return all(
            lane.positioned
            and lane.busy_since is None
            and not lane.size_bytes
            and self._positions[lane.tp] == len(self.broker.log(*lane.tp))
            for lane in self.lanes.here.values()
        )

    def position_of(self, tp: TopicPartition) -> int | None:
        """For the lanes: what will be fetched next."""
        return self._positions.get(tp)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """For the lanes: where each partition ends."""
        await self.process.hop()
        return {tp: len(self.broker.log(*tp)) for tp in partitions}

    def on_buffer_full(self, tp: TopicPartition) -> None:
        """For the lanes: fetch no more of it."""
        self._paused.add(tp)

    def on_buffer_drop(self, tp: TopicPartition) -> None:
        """For the lanes: fetch again."""
        self._paused.discard(tp)

    async def _fetch(self) -> None:
        while True:
            await self.process.hop()
            await self.lanes.make_seeks(self._seek)
            fetched = False
            for tp in list(self.lanes.here):
                records = self._next(tp)
                if records:
                    fetched = True
                    unseen = self.lanes.gather(tp, records)
                    if unseen is not None:
                        unseen.start()
            if not fetched:
                await self.broker.appended(self._topics_here(), 0.1 if self._is_moving() else 1.0)

    def _topics_here(self) -> list[str]:
        return list(dict.fromkeys(tp.topic for tp in self.lanes.here))

    def _is_moving(self) -> bool:
        return not self.lanes.ready()

    def _next(self, tp: TopicPartition) -> list[Any]:
        if self.broker.is_away or tp in self._paused:
            return []
        position = self._positions[tp]
        records: list[Any] = self.broker.log(*tp)[position : position + self.process.dice.randint(1, FETCHED_MAX)]
        self._positions[tp] = position + len(records)
        return records

    async def _seek(self, offsets: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        await self.process.hop()
        made = {tp for tp in offsets if tp in self.lanes.here}
        for tp in made:
            self._positions[tp] = offsets[tp]
        return made

    async def _follow_limits(self) -> None:
        while True:
            await self.process.hop()
            if self.broker.is_away:
                await asyncio.sleep(0.1)
                continue
            for number in range(self.broker.partitions):
                for record in self.broker.log(LIMITS, number)[self._limits_read[number] :]:
                    self._policies.apply(record.key, record.value, (record.timestamp, number, record.offset))
                    self._limits_read[number] += 1
            self._knows_limits = True
            await self.broker.appended([LIMITS], 10.0)

    def _note(self, error: BaseException) -> None:
        if self.failure is None and not isinstance(error, Fenced):
            self.failure = error

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._note(task.exception())  # type: ignore[arg-type]
