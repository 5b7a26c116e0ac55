"""Auditing events: every partition's topics, from their beginning to their end, against its rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from adapters.event_rows import EventRows
from models.audit import Findings
from models.errors import Unavailable
from models.event_audit import EVENT_INVARIANTS, EVENT_TOPICS, Announced, Identity, Row, unannounced, unfounded
from models.topics import CREDITS
from streams.letter_audit import count_letters
from streams.reading import Reader
from streams.settings import Settings

Balance = tuple[int, int]

GRACE_S = 15.0
"""How long a committed row may be without its event: the time of a step, or of a takeover."""
READ_TIMEOUT_S = 600.0


async def audit_events(settings: Settings, *, grace_s: float = GRACE_S) -> Findings:
    """Count the violations of EVENT_INVARIANTS. Reads only; waits up to `grace_s` a partition for events that are late.

    Raises Unavailable: a server is away, or reading takes longer than READ_TIMEOUT_S; SetupFailed: topics are missing.
    """
    findings = Findings(dict.fromkeys(EVENT_INVARIANTS, 0))
    async with EventRows.reading(settings.require("postgres")) as rows, Reader(settings, EVENT_TOPICS) as reader:
        said: dict[str, Balance] = {}
        for partition in range(await reader.partitions()):
            audited = _Partition(partition, rows, reader)
            await audited.read()
            await _count(findings, audited, grace_s)
            _keep_latest(said, audited.announced.balances)
        await _count_balances(findings, said, rows, settings, grace_s)
        await count_letters(findings, rows, settings)
    return findings


class _Partition:
    """One partition's rows as they were, and its events since."""

    def __init__(self, partition: int, rows: EventRows, reader: Reader) -> None:
        self.partition = partition
        self.announced = Announced()
        self.rows: Mapping[Identity, Row] = {}
        self.kept_since_ms = 0
        self._rows, self._reader = rows, reader

    async def read(self) -> None:
        """The rows first, so that every event of theirs is on its way already."""
        self.rows = await self._rows.of_partition(self.partition)
        firsts = await self._reader.start_at_beginning(self.partition)
        await self.read_on()
        is_whole = all(offset == 0 for tp, offset in firsts.items() if tp.topic.endswith(EVENT_TOPICS[:3]))
        if not is_whole:
            self.kept_since_ms = self.announced.since_ms or int(time.time() * 1000)

    async def read_on(self) -> None:
        """To the end as it is now."""
        await _read_to_the_end(self._reader, self.announced)

    def late(self) -> list[tuple[str, str]]:
        """Rows that are not announced."""
        return list(unannounced(self.rows, self.announced, self.kept_since_ms))

    async def unborne(self) -> list[Identity]:
        """Events that no row bears out, the newest rows included."""
        doubtful = list(unfounded(self.announced, self.rows))
        now = await self._rows.of_requests(doubtful) if doubtful else {}
        return list(unfounded(self.announced, {**self.rows, **now})) if doubtful else []


async def _count(findings: Findings, audited: _Partition, grace_s: float) -> None:
    deadline = time.monotonic() + grace_s
    while (late := audited.late()) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        await audited.read_on()
    for invariant, name in late:
        findings.add(invariant, 1, name)
    for identity in await audited.unborne():
        findings.add("no_event_without_row", 1, "/".join(identity))
    for invariant, names in (
        ("copies_are_equal", audited.announced.unequal),
        ("events_can_be_read", audited.announced.unreadable),
    ):
        for name in names:
            findings.add(invariant, 1, name)


async def _count_balances(
    findings: Findings, said: dict[str, Balance], rows: EventRows, settings: Settings, grace_s: float
) -> None:
    """Accounts move on while we read: wrong is only what goes on to differ for the whole grace."""
    now = await rows.balances()
    differing = {user_id for user_id in now.keys() | said.keys() if now.get(user_id) != said.get(user_id)}
    if not differing:
        return
    deadline = time.monotonic() + grace_s
    async with Reader(settings, [CREDITS]) as reader:
        announced = Announced()
        await reader.start_at_beginning()
        while differing:
            await _read_to_the_end(reader, announced)
            _keep_latest(said, announced.balances)
            now = await rows.balances_of(differing)
            differing = {user_id for user_id in differing if now.get(user_id) != said.get(user_id)}
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
    for user_id in differing:
        findings.add("balances_are_announced", 1, user_id)


def _keep_latest(said: dict[str, Balance], more: Mapping[str, Balance]) -> None:
    for user_id, balance in more.items():
        if balance[1] > said.get(user_id, (0, 0))[1]:
            said[user_id] = balance


async def _read_to_the_end(reader: Reader, announced: Announced) -> None:
    """Take in all events up to the end as it is now."""
    deadline = time.monotonic() + READ_TIMEOUT_S
    ends = await reader.end_offsets()
    while await reader.behind(ends):
        if time.monotonic() > deadline:
            raise Unavailable("Kafka", f"events were not read within {READ_TIMEOUT_S:.0f} s")
        for topic, record in await reader.read(0.2):
            place = f"{topic}/{record.partition}/{record.offset}"
            announced.see(topic, _event_id(record), record.value, record.timestamp, place)


def _event_id(record: Any) -> bytes:
    return next((value or b"" for name, value in record.headers if name == "ce_id"), b"")
