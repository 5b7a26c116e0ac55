"""Backlog: how many requests are unfinished, and since when; asked of Postgres when somebody scrapes."""

from __future__ import annotations

from adapters.backlog import unfinished_by_state
from adapters.postgres import Pool
from models.lifecycle import UNFINISHED, State
from services.metrics import OLDEST_UNFINISHED, UNFINISHED_REQUESTS
from streams.scrapes import Seldom

STATES = tuple(state for state in UNFINISHED if state is not State.ADMITTED)
"""Without `admitted`: those are records of generations.admitted.v1 that are not handled yet; its lag counts them."""


class Backlog:
    """Sets the gauges of unfinished requests."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.refresh = Seldom("unfinished requests", self._look)

    async def _look(self) -> None:
        found = await unfinished_by_state(self._pool)
        for state in STATES:
            count, oldest_s = found.get(state, (0, 0.0))
            UNFINISHED_REQUESTS.labels(state).set(count)
            OLDEST_UNFINISHED.labels(state).set(oldest_s)
