"""What must have come out: the input topic replayed on its own, compared with the answers and the books.

It shares no code with the admission that it checks: a window that is a list, balances that are numbers.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

LIMIT, WINDOW_MS, COST = 30, 60_000, 1
READ_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Topics:
    """The names of one contestant's topics."""

    requested: str
    admitted: str
    rejected: str
    credits: str


@dataclass
class Report:
    """What was found. `violations` by name; `duplicates` are copies of an event beyond those that were asked for.

    first_ms and last_ms are the broker's times of the first and the last answer.
    """

    admitted: int = 0
    rejected: int = 0
    repeated: int = 0
    duplicates: int = 0
    first_ms: int = 0
    last_ms: int = 0
    violations: dict[str, int] = field(default_factory=dict)


@dataclass
class _Expected:
    admitted: Counter[Any] = field(default_factory=Counter)
    rejected: Counter[Any] = field(default_factory=Counter)
    credits: Counter[Any] = field(default_factory=Counter)
    rows: set[Any] = field(default_factory=set)


async def check(
    bootstrap: str, postgres_url: str, topics: Topics, *, partitions: int, credits: int, headers: bool
) -> Report:
    """Replay and compare. `credits` is what every user began with; without `headers` event ids are not compared."""
    names = (topics.requested, topics.admitted, topics.rejected, topics.credits)
    records = await read_all(bootstrap, names, partitions)
    expected = _replay(records[topics.requested], credits)
    times = [record.timestamp for name in names[1:3] for record in records[name]]
    report = Report(
        admitted=len(expected.rows),
        rejected=expected.rejected.total(),
        repeated=expected.admitted.total() - len(expected.rows),
        first_ms=min(times, default=0),
        last_ms=max(times, default=0),
    )
    found = {
        "admitted": Counter(_admitted(record, headers) for record in records[topics.admitted]),
        "rejected": Counter(_rejected(record, headers) for record in records[topics.rejected]),
        "credits": Counter(_credits(record, headers) for record in records[topics.credits]),
    }
    for name, counted in found.items():
        wanted: Counter[Any] = getattr(expected, name)
        if not headers:
            wanted = Counter((None, *event[1:]) for event in wanted.elements())
        unexpected = sum(count for event, count in counted.items() if event not in wanted)
        report.violations[f"{name}_missing"] = (wanted - counted).total()
        report.violations[f"{name}_unexpected"] = unexpected
        report.duplicates += (counted - wanted).total() - unexpected
    report.violations["rows_differ"] = len(expected.rows ^ await _rows(postgres_url))
    return report


def _replay(records: list[Any], credits: int) -> _Expected:
    expected = _Expected()
    windows: dict[str, list[int]] = defaultdict(list)
    balances: dict[str, list[int]] = {}
    answered: dict[tuple[str, str], tuple[Any, ...]] = {}
    clocks: dict[int, int] = defaultdict(int)
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        now_ms = clocks[record.partition] = max(clocks[record.partition], record.timestamp)
        body = json.loads(record.value)
        user_id, request_id = body["user_id"], body["request_id"]
        before = answered.get((user_id, request_id))
        if before is not None:
            expected.admitted[before] += 1
            continue
        rejected_id = f"{user_id}/{request_id}/rejected/{record.partition}-{record.offset}"
        window = [at_ms for at_ms in windows[user_id] if at_ms > now_ms - WINDOW_MS]
        windows[user_id] = window
        balance = balances.setdefault(user_id, [credits, 1])
        if len(window) >= LIMIT:
            wait_s = (window[0] + WINDOW_MS - record.timestamp) / 1000
            expected.rejected[rejected_id, request_id, "rate_limited", wait_s] += 1
            continue
        if balance[0] < COST:
            expected.rejected[rejected_id, request_id, "insufficient_credits", None] += 1
            continue
        window.append(now_ms)
        balance[0] -= COST
        balance[1] += 1
        reference = f"{user_id}/{request_id}"
        event = (f"{reference}/admitted", request_id, body["prompt"], COST, balance[0], balance[1], _text(now_ms))
        answered[user_id, request_id] = event
        expected.admitted[event] += 1
        expected.credits[f"{user_id}/credits/{balance[1]}", user_id, balance[0], balance[1], reference] += 1
        expected.rows.add((user_id, request_id, balance[0], balance[1], now_ms))
    return expected


def _event_id(record: Any, headers: bool) -> str | None:
    return dict(record.headers)["ce_id"].decode() if headers else None


def _admitted(record: Any, headers: bool) -> tuple[Any, ...]:
    body = json.loads(record.value)
    fields = (body[name] for name in ("request_id", "prompt", "cost", "balance", "version", "admitted_at"))
    return (_event_id(record, headers), *fields)


def _rejected(record: Any, headers: bool) -> tuple[Any, ...]:
    body = json.loads(record.value)
    return (_event_id(record, headers), body["request_id"], body["reason"], body.get("retry_after_s"))


def _credits(record: Any, headers: bool) -> tuple[Any, ...]:
    body = json.loads(record.value)
    reference = body["cause"]["reference_id"]
    return (_event_id(record, headers), body["user_id"], body["balance"], body["version"], reference)


def _text(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


async def _rows(postgres_url: str) -> set[Any]:
    connection = await asyncpg.connect(postgres_url, timeout=10, command_timeout=120)
    try:
        rows = await connection.fetch(
            "SELECT user_id, request_id, balance, version, (extract(epoch FROM admitted_at) * 1000)::bigint"
            " FROM generations"
        )
    finally:
        await connection.close()
    return {tuple(row) for row in rows}


async def read_all(bootstrap: str, topics: Sequence[str], partitions: int) -> dict[str, list[Any]]:
    """Every record of these topics."""
    records: dict[str, list[Any]] = {topic: [] for topic in topics}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            assigned = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
            consumer.assign(assigned)
            ends = await consumer.end_offsets(assigned)
            for tp in assigned:
                consumer.seek(tp, 0)
            left = {tp for tp, end in ends.items() if end}
            while left:
                for tp, fetched in (await consumer.getmany(*left, timeout_ms=500)).items():
                    records[tp.topic] += fetched
                    if fetched[-1].offset >= ends[tp] - 1:
                        left.discard(tp)
    finally:
        await consumer.stop()
    return records
