"""adapters/sql/generations.sql, user_models.sql, strays.sql and the part of sweeps.sql that a keeper reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from simulation.fakes.kafka import BASE_MS
from simulation.fakes.tables import Row, Transaction
from simulation.statements.registry import record_of, statement

Texts = Sequence[str]


async def locked_if(held: Transaction, key: Any, holds: Callable[[Row], bool]) -> Row | None:
    """The generation, locked, if the condition holds before and after waiting for it."""
    row = held.get("generations", key)
    if row is None or not holds(row):
        return None
    row = await held.lock("generations", key)
    return row if row is not None and holds(row) else None


def clock_s() -> float:
    """clock_timestamp()"""
    return BASE_MS / 1000 + asyncio.get_running_loop().time()


@statement("generations", "queue")
async def queue(held: Transaction, user_ids: Texts, request_ids: Texts, traces: Sequence[str | None]) -> list[Any]:
    for *key, trace in zip(user_ids, request_ids, traces, strict=True):
        row = await locked_if(held, tuple(key), lambda row: row["state"] == "admitted")
        if row is not None:
            changes = {"state": "queued", "queued_at": held.now_s, "due_at": held.now_s, "traceparent": trace}
            held.update("generations", row, **changes)
    return []


_LOCKED = (
    *("user_id", "request_id", "operation", "state", "cost", "refunded", "prediction_id", "prompt", "options"),
    "traceparent",
)
_locked_generation = record_of(*_LOCKED, "admitted_at_ms")


@statement("generations", "lock_generations")
async def lock_generations(held: Transaction, user_ids: Texts, request_ids: Texts) -> list[Any]:
    found = []
    for key in sorted(set(zip(user_ids, request_ids, strict=True))):
        row = await locked_if(held, key, lambda row: True)
        if row is not None:
            found.append(_locked_generation(*(row[name] for name in _LOCKED), row["admitted_at_ms"]))
    return found


@statement("generations", "settle_generations")
async def settle_generations(held: Transaction, *columns: Any) -> list[Any]:
    for user_id, request_id, state, prediction_id, urls, refunded, reason, ended in zip(*columns, strict=True):
        row = await locked_if(held, (user_id, request_id), lambda row: True)
        if row is None:
            continue
        now_s = held.now_s
        changes: Row = {"state": state, "prediction_id": prediction_id, "refunded": refunded, "reason": reason}
        changes["output_urls"] = row["output_urls"] if urls is None else urls
        for name in ("running", "storing"):
            if state == name and row[f"{name}_at"] is None:
                changes[f"{name}_at"] = now_s
        if ended:
            changes["finished_at"] = now_s
        if state == "storing" and row["state"] != "storing":
            changes["attempts"] = 0
        if state != "running":
            changes["lease_until"] = None
        changes["due_at"] = _due_at(row, state, ended=ended, now_s=now_s)
        held.update("generations", row, **changes)
    return []


def _due_at(row: Row, state: str, *, ended: bool, now_s: float) -> float | None:
    if state == "storing":
        return now_s
    if ended:
        return None
    if row["cancel_requested_at"] is not None or row["due_at"] is None:
        return now_s
    due_at: float = row["due_at"]
    return due_at


_GENERATED = ("user_id", "request_id", "operation", "prompt", "prediction_id", "image_count", "cost", "refunded")
_OUTPUT = (
    *("user_id", "request_id", "prediction_id", "output_index", "operation", "source", "prompt", "key"),
    *("width", "height", "content_type", "bytes", "sha256"),
)


@statement("generations", "write_generated")
async def write_generated(held: Transaction, *columns: Any) -> list[Any]:
    for values in zip(*columns, strict=True):
        await held.insert("generated_images", dict(zip(_GENERATED, values, strict=True)), unless_there=True)
    return []


@statement("generations", "write_pictures")
async def write_pictures(held: Transaction, *columns: Any) -> list[Any]:
    *arrays, url = columns
    for values in zip(*arrays, strict=True):
        row = dict(zip(("image_id", *_OUTPUT, "thumbnail_key"), values, strict=True))
        await held.insert("ai_images", row | {"url": url + row["key"]}, unless_there=True)
    return []


@statement("generations", "write_videos")
async def write_videos(held: Transaction, *columns: Any) -> list[Any]:
    *arrays, url = columns
    for values in zip(*arrays, strict=True):
        row = dict(zip(("video_id", *_OUTPUT), values, strict=True))
        await held.insert("videos", row | {"url": url + row["key"]}, unless_there=True)
    return []


@statement("user_models", "write_user_models")
async def write_user_models(held: Transaction, *columns: Any) -> list[Any]:
    names = ("user_id", "version", "trigger_word", "request_id", "admitted_at_ms")
    for values in zip(*columns, strict=True):
        row = dict(zip(names, values, strict=True))
        if not await held.insert("user_models", row, unless_there=True):
            there = held.get("user_models", (row["user_id"],))
            assert there is not None
            if (row["admitted_at_ms"], row["request_id"]) > (there["admitted_at_ms"], there["request_id"]):
                held.update("user_models", there, **row)
    return []


_STRAY = ("prediction_id", "collection", "user_id", "request_id")
_stray = record_of(*_STRAY)


@statement("strays", "write_strays")
async def write_strays(held: Transaction, *columns: Any) -> list[Any]:
    for values in zip(*columns, strict=True):
        row = dict(zip(_STRAY, values, strict=True)) | {"due_at": held.now_s}
        await held.insert("stray_runs", row, unless_there=True)
    return []


@statement("strays", "claim_strays")
async def claim_strays(held: Transaction, wanted: int, look_after_s: float) -> list[Any]:
    due = [row for row in held.scan("stray_runs") if row["due_at"] <= held.now_s]
    found: list[Any] = []
    for row in sorted(due, key=lambda row: row["due_at"]):
        if len(found) < wanted and held.try_lock("stray_runs", (row["prediction_id"],)):
            held.update("stray_runs", row, due_at=held.now_s + look_after_s)
            found.append(_stray(*(row[name] for name in _STRAY)))
    return found


@statement("strays", "forget_stray")
async def forget_stray(held: Transaction, prediction_id: str) -> list[Any]:
    if await held.lock("stray_runs", (prediction_id,)) is not None:
        held.put("stray_runs", (prediction_id,), None)
    return []


_mark = record_of("batch_position", "began_at_s", "ended_at_s", "now_s", "is_alive")


@statement("sweeps", "read_mark")
async def read_mark(held: Transaction) -> list[Any]:
    """Nobody sweeps here."""
    return [_mark(0, None, None, clock_s(), False)]
