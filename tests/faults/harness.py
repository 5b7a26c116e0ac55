"""Real worker processes on real servers, and what they must have done.

The oracle replays the input topic on its own, with a window that keeps everything, and compares the answers, the
ledger and the balances with what it expects. It shares no code with the admission that it checks.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from models.topics import ADMITTED, CREDITS, DEAD_LETTERS, GRANTED, REJECTED, REQUESTED
from streams.reading import Reader
from streams.settings import Settings, variable_of
from tests.support.waiting import eventually

LIMIT, WINDOW_MS = 30, 60_000
READ_TIMEOUT_S = 30.0


def environment_of(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment variables that make a child process see these settings."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("DARKROOM_", "REPLICATE_"))}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value is not None:
            variables[variable_of(name)] = ",".join(value) if isinstance(value, tuple) else str(value)
    return variables | extra


class Worker:
    """One `darkroom worker` process; its output goes to a file."""

    def __init__(self, settings: Settings, role: str, log: Path, **extra: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "worker", role],
                env=environment_of(settings, DARKROOM_METRICS_PORT="0", **extra),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def ready(self, timeout_s: float = 30.0) -> Worker:
        """Wait until it has its partitions."""
        await eventually(
            lambda: "\nready\n" in self.output() or self.process.poll() is not None,
            timeout_s,
            "the worker is not ready",
        )
        assert self.process.poll() is None, self.output()
        return self

    def output(self) -> str:
        """All it has written."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def ended(self, timeout_s: float = 30.0) -> int:
        """Wait for its end; its exit code."""
        await eventually(lambda: self.process.poll() is not None, timeout_s, "the worker has not ended")
        return self.process.wait()

    async def terminate(self, timeout_s: float = 12.0) -> int:
        """TERM, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ended(timeout_s)

    def kill(self) -> None:
        """kill -9"""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class World:
    """Producing to, and reading everything from, one test's topics and tables."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.workers: list[Worker] = []
        self._producer: AIOKafkaProducer | None = None

    def start(self, role: str = "admission", **extra: str) -> Worker:
        """Start a worker process."""
        worker = Worker(self.settings, role, self.folder / f"worker-{len(self.workers)}.log", **extra)
        self.workers.append(worker)
        return worker

    async def close(self) -> None:
        """End every process that this world started."""
        for worker in self.workers:
            worker.kill()
        if self._producer is not None:
            await self._producer.stop()

    async def produce(self, topic: str, rows: Iterable[tuple[str | None, bytes | None]]) -> None:
        """Append (key, value) records, each acked."""
        if self._producer is None:
            self._producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka, linger_ms=2, acks="all")
            await self._producer.start()
        sent = []
        for key, value in rows:
            encoded = None if key is None else key.encode()
            sent.append(await self._producer.send(self.settings.topic_prefix + topic, value, key=encoded))
        await asyncio.gather(*sent)

    async def grant(self, users: Iterable[str], amount: int) -> None:
        """Give each of these users credits."""
        await self.produce(
            GRANTED,
            [
                (
                    user,
                    json.dumps({"grant_id": f"g-{user}", "user_id": user, "amount": amount, "kind": "bonus"}).encode(),
                )
                for user in users
            ],
        )

    async def open_accounts(self, users: Iterable[str], amount: int) -> None:
        """Book grants straight into the tables, for tests that are about something else."""
        async with self.database() as held:
            await held.executemany(
                "WITH entry AS (INSERT INTO ledger (user_id, amount, kind, reference_id, balance_after, version)"
                " VALUES ($1, $2, 'bonus', 'g-' || $1, $2, 1))"
                " INSERT INTO accounts (user_id, balance, version) VALUES ($1, $2, 1)",
                [(user, amount) for user in users],
            )

    def database(self) -> Any:
        """`async with` a connection."""
        return _Connection(self.settings.require("postgres"))

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Rows of a query."""
        async with self.database() as held:
            return list(await held.fetch(sql, *arguments))

    async def read(self, topic: str) -> list[Any]:
        """Every record of a topic, from its beginning to its end as it is now."""
        async with Reader(self.settings, [topic]) as reader:
            await reader.start_at_beginning()
            ends = await reader.end_offsets()
            records: list[Any] = []
            deadline = time.monotonic() + READ_TIMEOUT_S
            while await reader.behind(ends):
                assert time.monotonic() < deadline, f"{topic} could not be read to its end"
                records += [record for _, record in await reader.read(0.2)]
        return sorted(records, key=lambda record: (record.partition, record.offset))

    async def handled(self, stream: str) -> int:
        """How many records a stream has got past."""
        rows = await self.fetch(
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM stream_progress WHERE stream = $1", stream
        )
        return int(rows[0][0])

    async def end(self, topic: str) -> int:
        """How many records a topic has got."""
        return len(await self.read(topic))

    async def until_handled(self, stream: str, topic: str, timeout_s: float = 40.0) -> None:
        """Wait until a stream has got to its topic's end as it is now."""
        end = await self.end(topic)

        async def reached() -> bool:
            return await self.handled(stream) >= end

        await eventually(reached, timeout_s, f"{stream} has not handled {end} records; workers say:\n{self.tails()}")

    async def committed(self, role: str, topic: str) -> dict[int, int]:
        """The group's committed offsets by partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.require("kafka"))
        await admin.start()
        try:
            group = f"{self.settings.topic_prefix}darkroom-{role}"
            offsets = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        name = self.settings.topic_prefix + topic
        return {tp.partition: found.offset for tp, found in offsets.items() if tp.topic == name and found.offset >= 0}

    async def until_acked(self, role: str, topic: str, timeout_s: float = 40.0) -> None:
        """Wait until the group's committed offsets have reached the topic's end: all is decided and published."""
        ends: dict[int, int] = defaultdict(int)
        for record in await self.read(topic):
            ends[record.partition] = record.offset + 1

        async def reached() -> bool:
            committed = await self.committed(role, topic)
            return all(committed.get(partition) == end for partition, end in ends.items())

        await eventually(reached, timeout_s, f"{role} has not committed {dict(ends)} of {topic}; {self.tails()}")

    def tails(self) -> str:
        """The last lines of every worker."""
        return "\n".join(f"{worker.log.name}: {worker.output()[-600:]}" for worker in self.workers)


def _encode(**body: object) -> bytes:
    return json.dumps(body).encode()


class _Connection:
    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Any:
        self._connection = await asyncpg.connect(self._url, timeout=10)
        return self._connection

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close(timeout=5)


def request(request_id: str, user_id: str, **fields: object) -> tuple[str, bytes]:
    """A record for generations.requested.v1: (key, value)."""
    body = {"request_id": request_id, "user_id": user_id, "operation": "maya.image", "prompt": "a quiet harbour"}
    return user_id, json.dumps(body | fields).encode()


def event_ids(records: Iterable[Any]) -> dict[str, Any]:
    """ce_id -> body; a copy must be equal to its first."""
    found: dict[str, Any] = {}
    for record in records:
        headers = dict(record.headers)
        name = headers["ce_id"].decode()
        body = json.loads(record.value)
        assert found.setdefault(name, body) == body, f"two events are called {name}"
    return found


async def admission_violations(world: World, opening_balance: int) -> list[str]:
    """Everything that admission got wrong, by an independent replay of its input. Users begin with the balance."""
    inputs = await world.read(REQUESTED)
    admitted = event_ids(await world.read(ADMITTED))
    rejected = event_ids(await world.read(REJECTED))
    changed = event_ids(await world.read(CREDITS))
    letters = {(r.partition, r.offset) for r in await _letters(world)}
    problems: list[str] = []

    balances: dict[str, int] = defaultdict(lambda: opening_balance)
    windows: dict[str, list[int]] = defaultdict(list)
    expected: dict[str, tuple[str, bytes]] = {}
    clock_ms = defaultdict(int)
    for record in inputs:
        now_ms = clock_ms[record.partition] = max(clock_ms[record.partition], record.timestamp)
        try:
            body = json.loads(record.value)
            user_id, request_id = body["user_id"], body["request_id"]
        except (ValueError, KeyError, TypeError):
            if (record.partition, record.offset) not in letters:
                problems.append(f"{record.partition}/{record.offset} is unreadable and not in the dead letters")
            continue
        name = f"{user_id}/{request_id}"
        refusal = f"{name}/rejected/{record.partition}-{record.offset}"
        if name in expected:
            if (expected[name][1] != record.value) != (refusal in rejected):
                problems.append(f"{name} came again at {record.offset} and was answered wrongly")
            continue
        inside = [at_ms for at_ms in windows[user_id] if at_ms > now_ms - WINDOW_MS]
        reason = "rate_limited" if len(inside) >= LIMIT else "insufficient_credits" if balances[user_id] < 1 else None
        if reason is None:
            windows[user_id].append(now_ms)
            balances[user_id] -= 1
            expected[name] = (user_id, record.value)
        elif rejected.get(refusal, {}).get("reason") != reason:
            problems.append(f"{name} should be refused for {reason}, was {rejected.get(refusal)}")

    answered = {name.removesuffix("/admitted") for name in admitted}
    problems += [f"{name} was admitted and not announced" for name in expected.keys() - answered]
    problems += [f"{name} was announced and should not be admitted" for name in answered - expected.keys()]
    charges = await world.fetch("SELECT reference_id, count(*) AS n FROM ledger WHERE kind = 'charge' GROUP BY 1")
    charged = {row["reference_id"]: row["n"] for row in charges}
    problems += [f"{name} was charged {n} times" for name, n in charged.items() if n != 1]
    problems += [f"{name} was admitted and not charged" for name in expected.keys() - charged.keys()]
    problems += [f"{name} was charged and should not be" for name in charged.keys() - expected.keys()]
    for row in await world.fetch(
        "SELECT a.user_id, a.balance, a.version, sum(l.amount)::bigint AS booked, count(l.*) AS entries"
        " FROM accounts a JOIN ledger l USING (user_id) GROUP BY 1, 2, 3"
    ):
        if row["booked"] != row["balance"] or row["entries"] != row["version"]:
            problems.append(f"the books of {row['user_id']} do not add up: {dict(row)}")
        if row["balance"] != balances[row["user_id"]]:
            problems.append(f"{row['user_id']} has {row['balance']}, should have {balances[row['user_id']]}")
        if row["version"] > 1 and f"{row['user_id']}/credits/{row['version']}" not in changed:
            problems.append(f"the last change of {row['user_id']} was not announced")
    return problems


async def _letters(world: World) -> list[Any]:
    found = []
    for record in await world.read(DEAD_LETTERS):
        headers = dict(record.headers)
        if headers["dl_topic"].decode() == world.settings.topic_prefix + REQUESTED:
            found.append(_Coordinates(int(headers["dl_partition"]), int(headers["dl_offset"])))
    return found


class _Coordinates:
    def __init__(self, partition: int, offset: int) -> None:
        self.partition, self.offset = partition, offset
