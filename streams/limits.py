"""Following limits.changed.v1: every worker that limits tails it from its beginning, so that a change holds everywhere
within a second, without a restart, and after one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from models.errors import Unavailable
from models.limits import Moment, Policies
from models.operations import Policy
from models.outputs import Record
from models.requests import Unreadable
from models.topics import LIMITS
from streams.metrics import LIMIT_CHANGES
from streams.reading import Reader
from streams.settings import Settings

log = structlog.get_logger()

POLL_S = 0.5
TROUBLE_S = 1.0


class LimitsTail:
    """The policies that hold now. `run` it beside whoever asks `now`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policies = Policies()
        self._is_caught_up = False

    def now(self) -> Mapping[str, Policy]:
        """The policies by name. Raises Unavailable: changes made before our start are not read yet."""
        if not self._is_caught_up:
            raise Unavailable("the topic of limits", "it has not been read to its end yet")
        return self._policies

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the topic until `stop`. While Kafka is away the policies known so far go on to hold."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                following = asyncio.create_task(self._follow())
                await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
                following.cancel()
                with suppress(asyncio.CancelledError, Unavailable):
                    await following
                if not stop.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), TROUBLE_S)
        finally:
            stopping.cancel()

    async def _follow(self) -> None:
        try:
            async with Reader(self._settings, [LIMITS]) as reader:
                await reader.start_at_beginning()
                ends = await reader.end_offsets()
                while True:
                    if not self._is_caught_up and not await reader.behind(ends):
                        self._is_caught_up = True
                    for _, record in await reader.read(POLL_S if self._is_caught_up else 0.05):
                        self._apply(record)
        except Unavailable as error:
            log.warning("limits wait", why=str(error), wait_s=TROUBLE_S)
            raise

    def _apply(self, record: Record) -> None:
        before = dict(self._policies)
        changed = self._policies.apply(record.key, record.value, moment_of(record))
        if isinstance(changed, Unreadable):
            LIMIT_CHANGES.labels("refused").inc()
            log.error("limit change refused", partition=record.partition, offset=record.offset, why=changed.error)
        elif before[changed.name] != changed:
            LIMIT_CHANGES.labels("applied").inc()
            log.info("limit changed", **_shown(changed))


def moment_of(record: Record) -> Moment:
    """What orders changes of one policy."""
    return record.timestamp, record.partition, record.offset


def _shown(policy: Policy) -> dict[str, object]:
    return {
        "policy": policy.name,
        "limit": policy.limit,
        "window_s": policy.window_s,
        "mode": policy.mode.value,
        "max_in_flight": policy.max_in_flight,
    }
