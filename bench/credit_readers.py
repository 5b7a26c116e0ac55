"""Readers of balances, many in one process as in a gateway, and a record of what each read was given."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from models.errors import DarkroomError

Read = Callable[[int], Awaitable[int]]
"""The version that the user of this number is shown."""


@dataclass
class Record:
    """Reads in the order of their ends: the user's number, the version, the wall clock at the beginning, the seconds.

    `backwards` counts reads that showed less than a read of the same user that had ended before they began.
    """

    users: array[int] = field(default_factory=lambda: array("l"))
    versions: array[int] = field(default_factory=lambda: array("q"))
    began_s: array[float] = field(default_factory=lambda: array("d"))
    took_s: array[float] = field(default_factory=lambda: array("d"))
    backwards: int = 0
    failed: int = 0
    shown: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)


async def read_closed_loop(picks: Sequence[int], readers: int, read: Read, record: Record) -> None:
    """Every reader reads the next pick as soon as it has its answer."""
    clock, shown, offset_s = time.perf_counter, record.shown, _wall_offset_s()
    following = iter(picks)

    async def go_on() -> None:
        for user in following:
            floor, began_s = shown.get(user, 0), clock()
            try:
                version = await read(user)
            except DarkroomError:
                record.failed += 1
                continue
            _note(record, user, version, floor, began_s + offset_s, clock() - began_s)

    await asyncio.gather(*(go_on() for _ in range(readers)))


async def read_open_loop(picks: Iterable[int], rate: int, read: Read, record: Record) -> None:
    """Reads begin at intended times, whether or not answers come; the seconds count from the intended time."""
    clock, shown, offset_s = time.perf_counter, record.shown, _wall_offset_s()
    tasks: set[asyncio.Task[None]] = set()

    async def read_one(user: int, intended_s: float) -> None:
        floor, began_s = shown.get(user, 0), clock()
        try:
            version = await read(user)
        except DarkroomError:
            record.failed += 1
            return
        _note(record, user, version, floor, began_s + offset_s, clock() - intended_s)

    began = clock()
    for number, user in enumerate(picks):
        intended_s = began + number / rate
        if (wait_s := intended_s - clock()) > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.create_task(read_one(user, intended_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


def _note(record: Record, user: int, version: int, floor: int, began_s: float, took_s: float) -> None:
    if version < floor:
        record.backwards += 1
    elif version > floor and version > record.shown.get(user, 0):
        record.shown[user] = version
    record.users.append(user)
    record.versions.append(version)
    record.began_s.append(began_s)
    record.took_s.append(took_s)


def _wall_offset_s() -> float:
    return time.time() - time.perf_counter()
