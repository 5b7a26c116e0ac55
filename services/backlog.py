"""Backlog: what is unfinished, since when, and how much was begun; asked of Postgres when somebody scrapes."""

from __future__ import annotations

from adapters.backlog import Waiting, read_backlog
from adapters.postgres import Pool
from models.lifecycle import UNFINISHED, State
from services.metrics import OLDEST_UNFINISHED, PROVIDER_STARTED, UNFINISHED_REQUESTS
from streams.scrapes import Seldom

STATES = tuple(state for state in UNFINISHED if state is not State.ADMITTED)
"""Without `admitted`: those are records of generations.admitted.v1 that are not handled yet; its lag counts them."""


class Backlog:
    """Sets the gauges of unfinished requests."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.refresh = Seldom("unfinished requests", self._look)

    async def _look(self) -> None:
        found, started = await read_backlog(self._pool)
        for state in STATES:
            waiting = found.get(state, Waiting(0, 0.0))
            UNFINISHED_REQUESTS.labels(state).set(waiting.requests)
            OLDEST_UNFINISHED.labels(state).set(waiting.oldest_s)
        # The dispatcher counts when it claims; the hour goes on while there is nothing to claim.
        PROVIDER_STARTED.set(started)
