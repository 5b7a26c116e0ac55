"""The admission step written by hand for speed: aiokafka + asyncpg, one task a partition, bulk SQL.

It reads the same records, writes the same rows and publishes the same events as Darkroom's admission worker. It
has no stored decisions (a crash between commit and publish loses events), no fence against a second owner, no dead
letters (a bad record stops it), and it reads on from Kafka's committed offset. It uses none of Darkroom's code, so
that both can be held against each other.

Settings: PEER_KAFKA, PEER_POSTGRES, PEER_INPUT, PEER_ADMITTED, PEER_REJECTED, PEER_CREDITS, PEER_GROUP, PEER_HEADERS.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

BATCH_RECORDS = 1000
LIMIT, WINDOW_MS, COST = 30, 60_000, 1
OPERATION = "maya.image"
COMMIT_EVERY_S = 1.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:\-]{1,128}\Z")]


class Options(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    num_outputs: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    aspect_ratio: str | None = None
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Request(msgspec.Struct, gc=False):
    request_id: Id
    user_id: Id
    operation: str
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
    options: Options = Options()


class Admitted(msgspec.Struct, gc=False):
    request_id: str
    user_id: str
    operation: str
    prompt: str
    options: Options
    cost: int
    balance: int
    version: int
    admitted_at: str


class Rejected(msgspec.Struct, gc=False, omit_defaults=True):
    request_id: str
    user_id: str
    operation: str
    reason: str
    message: str
    policy: str | None = None
    limit: int | None = None
    window_s: int | None = None
    remaining: int | None = None
    retry_after_s: float | None = None
    required: int | None = None
    current: int | None = None


class Cause(msgspec.Struct, gc=False):
    kind: str
    reference_id: str
    amount: int


class CreditsChanged(msgspec.Struct, gc=False):
    user_id: str
    balance: int
    version: int
    unlimited: bool
    cause: Cause


decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode

LOCK_ACCOUNTS = """
SELECT user_id, balance, version, unlimited FROM accounts
 WHERE user_id = ANY(string_to_array($1, ' ')) ORDER BY user_id FOR UPDATE"""
KNOWN = """
SELECT g.user_id, g.request_id, g.prompt, g.cost, g.balance, g.version, g.admitted_at
  FROM unnest(string_to_array($1, ' '), string_to_array($2, ' ')) AS asked (user_id, request_id)
  JOIN generations g USING (user_id, request_id)"""
MOVE_ACCOUNTS = """
UPDATE accounts a SET balance = m.balance, version = m.version
  FROM unnest(string_to_array($1, ' '), string_to_array($2, ' ')::bigint[], string_to_array($3, ' ')::bigint[])
    AS m (user_id, balance, version)
 WHERE a.user_id = m.user_id"""
WINDOWS = """
SELECT user_id, admitted_at FROM generations
 WHERE partition = $1 AND admitted_at > $2 ORDER BY admitted_at"""
LEDGER_COLUMNS = ("user_id", "amount", "kind", "reference_id", "balance_after", "version")
GENERATION_COLUMNS = (
    *("user_id", "request_id", "operation", "cost", "balance", "version"),
    *("prompt", "options", "partition", "admitted_at", "window_limit", "window_s"),
)


def fixed_headers(topic: str) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", topic.encode()),
        ("ce_source", b"/darkroom/admit"),
        ("content-type", b"application/json"),
    ]


ADMITTED_HEADERS = fixed_headers("generations.admitted.v1")
REJECTED_HEADERS = fixed_headers("generations.rejected.v1")
CREDITS_HEADERS = fixed_headers("credits.changed.v1")


class Peer:
    """One process of the hand-written admission."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.with_headers = settings["HEADERS"] == "1"
        self.done: dict[TopicPartition, int] = {}
        self.ready: set[int] = set()

    async def run(self) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        kafka = self.settings["KAFKA"]
        self.pool = await asyncpg.create_pool(self.settings["POSTGRES"], min_size=4, max_size=8)
        self.producer = AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", enable_idempotence=True, max_batch_size=1 << 20
        )
        await self.producer.start()
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka,
            group_id=self.settings["GROUP"],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 << 20,
        )
        await self.consumer.start()
        self.consumer.subscribe([self.settings["INPUT"]], listener=Listener(self))
        committing = asyncio.create_task(self.commit_regularly())
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        await stop.wait()
        committing.cancel()
        await self.consumer.stop()
        await self.producer.stop()
        await self.pool.close()

    async def commit_regularly(self) -> None:
        committed: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            due = {tp: offset for tp, offset in self.done.items() if committed.get(tp) != offset}
            if due:
                await self.consumer.commit(due)
                committed |= due

    async def work(self, tp: TopicPartition) -> None:
        """Batch after batch of one partition."""
        windows = await self.rebuilt_windows(tp.partition)
        self.ready.add(tp.partition)
        if self.ready >= {other.partition for other in self.consumer.assignment()}:
            print("ready", flush=True)
        while True:
            fetched = await self.consumer.getmany(tp, timeout_ms=1000, max_records=BATCH_RECORDS)
            records = fetched.get(tp)
            if records:
                await self.handle(tp, records, windows)
                self.done[tp] = records[-1].offset + 1

    async def rebuilt_windows(self, partition: int) -> dict[str, deque[int]]:
        """A minute of wall clock before now is more than a window of broker time needs."""
        windows: dict[str, deque[int]] = {}
        since = datetime.now(UTC) - timedelta(milliseconds=2 * WINDOW_MS)
        for user_id, admitted_at in await self.pool.fetch(WINDOWS, partition, since):
            at_ms = round((admitted_at - EPOCH).total_seconds() * 1000)
            windows.setdefault(user_id, deque()).append(at_ms)
        return windows

    async def handle(self, tp: TopicPartition, records: list[Any], windows: dict[str, deque[int]]) -> None:
        """One transaction, then one batch for each topic."""
        requests = [decode(record.value) for record in records]
        ledger: list[tuple[Any, ...]] = []
        generations: list[tuple[Any, ...]] = []
        answers: list[tuple[Any, Any, Any]] = []
        async with self.pool.acquire() as connection, connection.transaction():
            users = {request.user_id for request in requests}
            rows = await connection.fetch(LOCK_ACCOUNTS, " ".join(users))
            accounts = {row[0]: [row[1], row[2], row[3]] for row in rows}
            known = {
                (row[0], row[1]): (row[2], row[3], row[4], row[5], row[6])
                for row in await connection.fetch(
                    KNOWN,
                    " ".join([request.user_id for request in requests]),
                    " ".join([request.request_id for request in requests]),
                )
            }
            moved: set[str] = set()
            last_ms, at, at_text = -1, EPOCH, ""
            for record, request in zip(records, requests, strict=True):
                user_id = request.user_id
                if record.key != user_id.encode() or request.operation != OPERATION:
                    raise ValueError(f"bad record at {tp.partition}/{record.offset}")
                before = known.get((user_id, request.request_id))
                if before is not None:
                    if before[0] != request.prompt:
                        answers.append((record, request, conflict(request)))
                    else:
                        answers.append((record, request, (False, *before[1:4], rfc3339(before[4]))))
                    continue
                now_ms = record.timestamp
                window = windows.get(user_id)
                if window is None:
                    window = windows[user_id] = deque()
                while window and window[0] <= now_ms - WINDOW_MS:
                    window.popleft()
                if len(window) >= LIMIT:
                    answers.append((record, request, rate_limited(request, window[0] + WINDOW_MS - now_ms)))
                    continue
                account = accounts.get(user_id)
                cost = COST if account is None or not account[2] else 0
                if account is None or account[0] < cost:
                    answers.append((record, request, insufficient(request, account[0] if account else 0)))
                    continue
                window.append(now_ms)
                if cost:
                    account[0] -= cost
                    account[1] += 1
                    moved.add(user_id)
                    ledger.append((user_id, -cost, "charge", f"{user_id}/{request.request_id}", *account[:2]))
                if now_ms != last_ms:
                    last_ms, at = now_ms, EPOCH + timedelta(milliseconds=now_ms)
                    at_text = rfc3339(at)
                balance, version = account[0], account[1]
                known[user_id, request.request_id] = (request.prompt, cost, balance, version, at)
                generations.append(
                    (
                        *(user_id, request.request_id, OPERATION, cost, balance, version),
                        *(request.prompt, encode(request.options).decode(), tp.partition, at),
                        *(LIMIT, WINDOW_MS // 1000),
                    )
                )
                answers.append((record, request, (account[2], cost, balance, version, at_text)))
            if generations:
                await connection.copy_records_to_table("generations", records=generations, columns=GENERATION_COLUMNS)
            if ledger:
                await connection.copy_records_to_table("ledger", records=ledger, columns=LEDGER_COLUMNS)
                await connection.execute(
                    MOVE_ACCOUNTS,
                    " ".join(moved),
                    " ".join([str(accounts[user_id][0]) for user_id in moved]),
                    " ".join([str(accounts[user_id][1]) for user_id in moved]),
                )
        await self.publish(tp.partition, answers, {row[3] for row in ledger})

    async def publish(self, partition: int, answers: Iterable[tuple[Any, Any, Any]], charged: set[str]) -> None:
        """The events of a batch; waits for the acks."""
        admitted = Outgoing(self.producer, self.settings["ADMITTED"], partition)
        rejected = Outgoing(self.producer, self.settings["REJECTED"], partition)
        credits = Outgoing(self.producer, self.settings["CREDITS"], partition)
        headers: list[tuple[str, bytes]] = []
        for record, request, answer in answers:
            user_id, request_id = request.user_id, request.request_id
            if type(answer) is Rejected:
                if self.with_headers:
                    event_id = f"{user_id}/{request_id}/rejected/{record.partition}-{record.offset}"
                    headers = [("ce_id", event_id.encode()), *REJECTED_HEADERS]
                await rejected.add(record.key, encode(answer), headers)
                continue
            unlimited, cost, balance, version, at = answer
            event = Admitted(
                *(request_id, user_id, OPERATION, request.prompt, request.options), cost, balance, version, at
            )
            if self.with_headers:
                headers = [("ce_id", f"{user_id}/{request_id}/admitted".encode()), *ADMITTED_HEADERS]
            await admitted.add(record.key, encode(event), headers)
            reference_id = f"{user_id}/{request_id}"
            if reference_id in charged:
                charged.discard(reference_id)
                change = CreditsChanged(user_id, balance, version, unlimited, Cause("charge", reference_id, -cost))
                if self.with_headers:
                    headers = [("ce_id", f"{user_id}/credits/{version}".encode()), *CREDITS_HEADERS]
                await credits.add(record.key, encode(change), headers)
        await asyncio.gather(*await admitted.sent(), *await rejected.sent(), *await credits.sent())


class Outgoing:
    """Batches for one partition of one topic."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self.producer, self.topic, self.partition = producer, topic, partition
        self.acks: list[Any] = []
        self.batch: Any = None

    async def add(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        if self.batch is None:
            self.batch = self.producer.create_batch()
        if self.batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            await self.sent()
            await self.add(key, value, headers)

    async def sent(self) -> list[Any]:
        batch, self.batch = self.batch, None
        if batch is not None:
            batch.close()
            self.acks.append(await self.producer.send_batch(batch, self.topic, partition=self.partition))
        return self.acks


def conflict(request: Request) -> Rejected:
    message = "This request id was used before for something else."
    return Rejected(request.request_id, request.user_id, request.operation, "conflict", message)


def rate_limited(request: Request, retry_after_ms: int) -> Rejected:
    return Rejected(
        *(request.request_id, request.user_id, request.operation, "rate_limited"),
        f"Too many image generation requests. Try again in {-(-retry_after_ms // 1000)} s.",
        policy=OPERATION,
        limit=LIMIT,
        window_s=WINDOW_MS // 1000,
        remaining=0,
        retry_after_s=retry_after_ms / 1000,
    )


def insufficient(request: Request, current: int) -> Rejected:
    return Rejected(
        *(request.request_id, request.user_id, request.operation, "insufficient_credits"),
        f"This needs {COST} credit and you have {current}.",
        required=COST,
        current=current,
    )


def rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """A task for each partition that is ours."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.tasks: list[asyncio.Task[None]] = []

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.peer.done:
            await self.peer.consumer.commit(self.peer.done)
        self.peer.done = {}
        self.peer.ready = set()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for tp in assigned:
            task = asyncio.create_task(self.peer.work(tp))
            task.add_done_callback(end_loudly)
            self.tasks.append(task)


def end_loudly(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    names = ("KAFKA", "POSTGRES", "INPUT", "ADMITTED", "REJECTED", "CREDITS", "GROUP", "HEADERS")
    uvloop.run(Peer({name: os.environ[f"PEER_{name}"] for name in names}).run())
