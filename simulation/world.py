"""A run: workers, servers, users and faults on one virtual clock, from a plan to a history that has come to rest."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from adapters.credit_fills import balances_from
from adapters.credit_reads import CreditReads
from agents.admit import AdmitStep
from agents.cancel import CancelStep
from agents.gallery import GalleryStep
from agents.generate import GenerateStep
from agents.grants import GrantsStep
from agents.settle import SettleStep
from models.caching import CreditReading
from models.errors import Unavailable
from models.operations import POLICIES
from models.topics import CANCEL_REQUESTED, GRANTED, LIMITS, REQUESTED
from services.runner import run_service
from simulation.fakes.kafka import BASE_MS, Broker
from simulation.fakes.postgres import FakePool
from simulation.fakes.provider import ProviderState
from simulation.fakes.publisher import SimulatedPublisher
from simulation.fakes.redis import Entry, FakeCreditCache, Keyspace
from simulation.fakes.tables import Store
from simulation.monitor import ENDED, Monitor
from simulation.net import Process
from simulation.plan import LENGTH_S, PARTITIONS, WORKERS, Item, Plan, value_of
from simulation.services import Gateway, services_of, virtual_services
from simulation.worker import Worker
from streams.delivery import Step
from streams.lanes import TopicPartition
from streams.partitioning import partition_of

REST_S = 150.0
NOTICE_S = 0.2


class World:
    """Everything of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dice = random.Random(plan.seed ^ 0x5EED)  # noqa: S311
        self.broker = Broker(PARTITIONS, self.dice)
        self.store = Store()
        self.monitor = Monitor(self.broker, self.store)
        self.objects: set[str] = set()
        self.keyspace = Keyspace()
        self.readings: list[CreditReading] = []
        self.held_at_rest: dict[str, Entry] = {}
        self._processes = [Process("gateway", self.dice)]
        gateway = Gateway(SimulatedPublisher(self.broker, self._processes[0]))
        self.provider = ProviderState(self.dice, gateway.deliver)
        self.workers: list[Worker] = []
        self.problems: list[str] = []
        self._gone: set[int] = set()
        self._lives = 0
        # The tasks of the dead wait for ever; collected as garbage they would run their `finally`.
        self._graveyard: list[Worker] = []
        self._rebalancing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Play the plan, heal everything, wait until nothing is left to do."""
        with virtual_services(self.dice):
            try:
                await self._run()
            finally:
                for process in self._processes:
                    process.closed = True
                    process.resume()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for item in self.plan.items:
            if item.kind == "limit" and item.at_s == 0.0:
                await self.play(item)
        self.workers = [self._new_worker() for _ in range(WORKERS)]
        self._spawn(self._rebalance())
        for item in self.plan.items:
            if item.at_s > loop.time():
                await asyncio.sleep(item.at_s - loop.time())
            if item.kind != "limit" or item.at_s > 0.0:
                await self.play(item)
        await asyncio.sleep(max(0.0, LENGTH_S - loop.time()))
        await self._heal()
        await self._rest()

    async def play(self, item: Item) -> None:
        """Do one item; what takes time goes on beside the others."""
        method = getattr(self, f"_do_{item.kind}")
        done = method(**item.what) if item.kind != "request" else method(item.what)
        if done is not None:
            self._spawn(done)

    def history(self) -> list[str]:
        """Everything that is on the topics, in the order in which it came."""
        records = [record for log in self.broker.logs() for record in log]
        return [
            f"{record.at_s:7.3f} s  {record.topic}/{record.partition}@{record.offset} t={record.timestamp - BASE_MS}"
            f"  {(record.value or b'').decode(errors='replace')}"
            for record in sorted(records, key=lambda record: record.at_s)
        ]

    def steps(self, partitions: int, policies_now: Callable[[], Mapping[str, Any]]) -> Sequence[Step]:
        """The agents of each worker."""
        admission: list[Step] = [AdmitStep(partitions, policies_now), GrantsStep(partitions)]
        if not self.plan.fulfilment:
            return admission
        return [*admission, GenerateStep(), SettleStep(), GalleryStep("https://images/"), CancelStep(partitions)]

    def _new_worker(self) -> Worker:
        self._lives += 1
        worker = Worker(f"worker-{self._lives}", self.broker, self.store, self.steps, self.dice)
        self._processes.append(worker.process)
        self._graveyard.append(worker)
        worker.start()
        if self.plan.fulfilment:
            worker.project(self.keyspace)
            for service in services_of(worker, self.provider, self.objects):
                worker.begin(run_service(service, asyncio.Event()))
        return worker

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _do_request(self, what: dict[str, Any]) -> None:
        user_id = what["user_id"]
        place = what.get("partition", partition_of(user_id, PARTITIONS))
        self.broker.append(REQUESTED, place, user_id.encode(), value_of(what))

    def _do_grant(self, **what: Any) -> None:
        user_id = what["user_id"]
        self.broker.append(GRANTED, partition_of(user_id, PARTITIONS), user_id.encode(), value_of(what))

    def _do_cancel(self, **what: Any) -> None:
        user_id = what["user_id"]
        self.broker.append(CANCEL_REQUESTED, partition_of(user_id, PARTITIONS), user_id.encode(), value_of(what))

    def _do_junk(self, *, to: str, text: str) -> None:
        topic = REQUESTED if to == "requests" else GRANTED
        self.broker.append(topic, partition_of("u", PARTITIONS), b"u", text.encode())

    def _do_limit(self, **what: Any) -> None:
        name = what["policy"]
        assert name in POLICIES
        self.broker.append(LIMITS, partition_of(name, PARTITIONS), name.encode(), value_of(what))

    def _do_pause_in_step(self, *, worker: int, statements: int, **what: float) -> None:
        process = self.workers[worker].process
        process.traps.append((statements, lambda: self._spring(worker, self._do_pause, what)))

    def _do_crash_in_step(self, *, worker: int, statements: int, for_s: float) -> None:
        process = self.workers[worker].process
        process.traps.append((statements, lambda: self._spring(worker, self._do_crash, {"for_s": for_s})))

    def _spring(self, worker: int, fault: Callable[..., Coroutine[Any, Any, None]], what: dict[str, float]) -> None:
        """Strike before the worker's next hop."""
        if worker not in self._gone:
            self.workers[worker].process.pause()
            self._spawn(fault(worker=worker, **what))

    async def _do_crash(self, *, worker: int, for_s: float) -> None:
        if worker in self._gone:
            return
        self._gone.add(worker)
        self.workers[worker].crash()
        await asyncio.sleep(NOTICE_S)
        await self._rebalance()
        await asyncio.sleep(for_s)
        if worker in self._gone:
            self.workers[worker] = self._new_worker()
            self._gone.discard(worker)
            await self._rebalance()

    async def _do_pause(self, *, worker: int, for_s: float, unaware_s: float) -> None:
        if worker in self._gone:
            return
        self._gone.add(worker)
        paused = self.workers[worker]
        paused.process.pause()
        if for_s > NOTICE_S:
            await asyncio.sleep(NOTICE_S)
            await self._rebalance()
        await asyncio.sleep(for_s)
        # It goes on where it stood, with connections, buffers and transactions, while others own its partitions.
        paused.process.resume()
        await asyncio.sleep(unaware_s)
        self._gone.discard(worker)
        await self._rebalance()

    async def _do_slow(self, *, worker: int, for_s: float) -> None:
        process = self.workers[worker].process
        before_s, process.slowness_s = process.slowness_s, 0.4
        await asyncio.sleep(for_s)
        process.slowness_s = before_s

    async def _do_rebalance(self) -> None:
        await self._rebalance()

    async def _do_postgres_away(self, *, for_s: float) -> None:
        self.store.is_away = True
        self.store.abort_all()
        await asyncio.sleep(for_s)
        self.store.is_away = False

    async def _do_kafka_away(self, *, for_s: float) -> None:
        self.broker.is_away = True
        await asyncio.sleep(for_s)
        self.broker.is_away = False

    def _do_provider(self, **rates: float) -> None:
        self.provider.rates = dict(rates)

    async def _do_redis_away(self, *, for_s: float) -> None:
        self.keyspace.is_away = True
        await asyncio.sleep(for_s)
        self.keyspace.is_away = False

    def _do_redis_flush(self) -> None:
        self.keyspace.flush()

    async def _do_read(self, *, user_id: str) -> None:
        """A dashboard asks for a balance, in a process of its own."""
        pool = FakePool(self.store, self._processes[0])
        cache = FakeCreditCache(self.keyspace, self._processes[0])
        reads = CreditReads(cache, balances_from(pool))  # type: ignore[arg-type]
        try:
            reading = await reads.read(user_id)
        except Unavailable:
            return
        self.readings.append(reading)

    def _do_lost_commit(self, *, done: bool) -> None:
        self.store.lost_commits.append(done)

    def _do_lost_ack(self, *, arrives: list[str]) -> None:
        self.broker.losses.extend(arrives)

    def _do_clock_step(self, *, partition: int, step_ms: int) -> None:
        self.broker.skew_ms[partition] = self.broker.skew_ms.get(partition, 0) + step_ms

    async def _rebalance(self) -> None:
        """All members that are heard of leave their partitions and get others; the rest are not asked."""
        async with self._rebalancing:
            members = [worker for number, worker in enumerate(self.workers) if number not in self._gone]
            await asyncio.gather(*(worker.revoke() for worker in members))
            if not members:
                return
            topics = list(members[0].lanes.handlers)
            shares: dict[int, list[TopicPartition]] = {}
            for topic in topics:
                for number in range(PARTITIONS):
                    shares.setdefault(self.dice.randrange(len(members)), []).append(TopicPartition(topic, number))
            for number, partitions in shares.items():
                members[number].assign(partitions)

    async def _heal(self) -> None:
        self.store.is_away = self.broker.is_away = self.keyspace.is_away = False
        self.store.lost_commits.clear()
        self.broker.losses.clear()
        self.provider.rates.clear()
        for worker in self.workers:
            worker.process.traps.clear()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        await self._rebalance()

    async def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + REST_S
        quiet = 0
        while loop.time() < until_s:
            quiet = quiet + 1 if self._is_at_rest() else 0
            if quiet == 3:
                break
            await asyncio.sleep(0.5)
        else:
            self.problems.append(f"not at rest {REST_S:.0f} s after the last fault")
        for row in self.store.rows("accounts"):
            held = self.keyspace.held(f"credits:{row['user_id']}")
            if held is not None:
                self.held_at_rest[row["user_id"]] = held
        for worker in self.workers:
            if worker.failure is not None:
                self.problems.append(f"{worker.process.name} stopped: {worker.failure!r}")

    def _is_at_rest(self) -> bool:
        if not all(worker.is_idle() for worker in self.workers):
            return False
        if not self.plan.fulfilment:
            return True
        return not self.store.tables["stray_runs"] and all(
            row["state"] in ENDED for row in self.store.rows("generations")
        )
