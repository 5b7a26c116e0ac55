"""Reconciler: ask about what was not heard of in time, find lost runs again, end what takes too long or is cancelled.

With a prediction id the run's status is read and published; a run that its user has cancelled is stopped before.
Without one the provider's list is searched: a run that is found is adopted; only a search that was complete and found
nothing lets the request be tried again. A run that no request waits for is stopped.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

import structlog

from adapters.postgres import Pool, transaction
from adapters.provider import Provider
from adapters.strays import claim_strays, forget_stray
from adapters.work import (
    claim_given_up,
    claim_overdue,
    forget_service,
    hand_back,
    keep_prediction,
    read_rivals,
    release_overdue,
    taken_predictions,
)
from models.errors import ProviderBusy, ProviderError, ProviderRefused, Unavailable
from models.operations import DEADLINES_S, LONGEST_DEADLINE_S
from models.pacing import pace_of
from models.provider_work import (
    CLOCK_SKEW_MAX_S,
    PREDICTIONS,
    TRAININGS,
    Work,
    adopted,
    given_up,
    is_over,
    is_unmistakable,
    prediction_id_of,
    seconds_of,
    tells_nothing_new,
    updated,
)
from models.settlement import StrayRun
from services.hands import Hands
from services.metrics import (
    REQUESTS_CANCELLED,
    REQUESTS_EXPIRED,
    RUNS_ADOPTED,
    RUNS_STOPPED,
    RUNS_TRIED_AGAIN,
    provider_call,
)
from streams.crash_points import crash_point
from streams.facts import FactPublisher

log = structlog.get_logger()

AT_ONCE_MAX = 16
READS_PER_MINUTE = 2400
LEASE_FACTOR = 1.5
LEASE_MARGIN_S = 2.0
PAGES_MAX = 50
GIVING_UP_CHECK_S = 1.0
HOUSEKEEPING_S = 3600.0


class Reconciler:
    """Polls, adopts, stops, gives up; one round at a time."""

    name = "reconciler"
    idle_s = 0.5

    def __init__(
        self,
        pool: Pool,
        provider: Provider,
        facts: FactPublisher,
        *,
        timeout_s: float,
        poll_after_s: float,
        deadlines_s: Mapping[str, float] = DEADLINES_S,
    ) -> None:
        self.hands = Hands(self.name, AT_ONCE_MAX)
        self._pool = pool
        self._provider = provider
        self._facts = facts
        self._pace = pace_of(READS_PER_MINUTE)
        self._lease_s = timeout_s * LEASE_FACTOR + LEASE_MARGIN_S
        self._poll_after_s = poll_after_s
        self._deadlines_s = deadlines_s
        self._giving_up_check_at = 0.0
        self._housekeeping_at = time.monotonic() + HOUSEKEEPING_S

    async def tick(self) -> int:
        """Work off one round; returns its size. Raises Unavailable."""
        await self._keep_house()
        async with transaction(self._pool) as held:
            works = await claim_overdue(
                held,
                self._pace,
                wanted=AT_ONCE_MAX,
                lease_s=self._lease_s,
                look_after_s=self._poll_after_s,
            )
        if not works:
            return 0
        crash_point(self.name, 1)  # leased, nothing asked: looked at again when the lease is over
        lost = [work for work in works if work.prediction_id is None]
        known = [work for work in works if work.prediction_id is not None]
        searches = [self._search(collection, lost) for collection in (PREDICTIONS, TRAININGS)]
        await _all([*(self._poll(work) for work in known), *searches])
        await release_overdue(self._pool, works)
        return len(works)

    async def _poll(self, work: Work) -> None:
        assert work.prediction_id is not None
        if work.is_cancelled:
            await self._stop(work)
        try:
            with provider_call("get"):
                body = await self._provider.get(work.prediction_id, work.collection)
        except (ProviderBusy, ProviderRefused) as error:
            log.warning("poll failed", request=work.request_id, prediction=work.prediction_id, why=str(error))
            body = {}
        status = body.get("status")
        if self._is_late(work) and not is_over(status):
            await self._give_up(work)
        elif body and not tells_nothing_new(work.state, status):
            await self._facts.prediction(updated(work, body, "reconciler"), work.traceparent)

    async def _search(self, collection: str, works: list[Work]) -> None:
        """Find the runs of requests whose answer was lost, among those of one collection."""
        asked = [work for work in works if work.collection == collection]
        for work in asked:
            if self._is_late(work):
                await self._give_up(work)
        lost = [work for work in asked if not self._is_late(work)]
        if not lost:
            return
        since_s = min(work.submitted_at for work in lost) - CLOCK_SKEW_MAX_S
        try:
            bodies, is_complete = await self._list_since(since_s, collection)
        except ProviderError as error:
            log.warning("search failed", requests=len(lost), why=str(error))
            return
        # In this order: what was adopted by others since the list was made is seen as taken.
        taken = await taken_predictions(self._pool, [found for body in bodies if (found := prediction_id_of(body))])
        mistakable = [work for work in lost if not is_unmistakable(work)]
        rivals = await read_rivals(self._pool, mistakable) if mistakable else []
        runs, unclear = adopted(lost, bodies, taken, rivals)
        for work in lost:
            if work.identity in runs:
                await self._adopt(work, runs[work.identity])
            elif work.identity in unclear:
                log.warning("run not certain, waiting for its webhook", user=work.user_id, request=work.request_id)
            elif is_complete and await hand_back(self._pool, work, delay_s=random.random()):  # noqa: S311
                RUNS_TRIED_AGAIN.inc()
                log.info("no run found, queued again", user=work.user_id, request=work.request_id)

    async def _list_since(self, since_s: float, collection: str) -> tuple[list[dict[str, Any]], bool]:
        """(runs, whether these are all since then)."""
        bodies: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            with provider_call("list"):
                page, cursor = await self._provider.list_page(cursor, collection)
            bodies.extend(page)
            oldest = seconds_of(page[-1].get("created_at")) if page else None
            if cursor is None or (oldest is not None and oldest < since_s):
                return bodies, True
        return bodies, False

    async def _adopt(self, work: Work, body: Any) -> None:
        prediction_id = prediction_id_of(body) or ""
        kept = await keep_prediction(self._pool, work, prediction_id, look_after_s=self._poll_after_s)
        crash_point(self.name, 2)  # adopted but not announced: polled like any other
        if kept == prediction_id:
            RUNS_ADOPTED.inc()
            log.info("run adopted", user=work.user_id, request=work.request_id, prediction=prediction_id)
            await self._facts.prediction(updated(work, body, "reconciler"), work.traceparent)

    def _is_late(self, work: Work) -> bool:
        return work.age_s >= self._deadlines_s.get(work.operation, LONGEST_DEADLINE_S)

    async def _give_up(self, work: Work) -> None:
        """The refund first: a provider that is away must not hold it up."""
        fact = given_up(work)
        await self._facts.prediction(fact, work.traceparent)
        (REQUESTS_CANCELLED if work.is_cancelled else REQUESTS_EXPIRED).inc()
        log.warning("request given up", user=work.user_id, request=work.request_id, status=fact.status)
        crash_point(self.name, 3)  # the run goes on at the provider until it ends by itself; nobody waits for it
        if work.prediction_id is not None:
            await self._stop(work)

    async def _stop(self, work: Work) -> None:
        """Cancel a run; one that is over stays as it is, and one that goes on is stopped again at the next look."""
        assert work.prediction_id is not None
        await self._cancel(work.prediction_id, work.collection)

    async def _stop_stray(self, stray: StrayRun) -> None:
        log.warning("run not needed", user=stray.user_id, request=stray.request_id, prediction=stray.prediction_id)
        if await self._cancel(stray.prediction_id, stray.collection):
            await forget_stray(self._pool, stray)

    async def _cancel(self, prediction_id: str, collection: str) -> bool:
        """Whether the provider has answered, be it that there is no such run."""
        try:
            with provider_call("cancel"):
                await self._provider.cancel(prediction_id, collection)
        except ProviderError as error:
            RUNS_STOPPED.labels(error.code).inc()
            log.warning("run not cancelled", prediction=prediction_id, why=str(error))
            return isinstance(error, ProviderRefused)
        RUNS_STOPPED.labels("asked").inc()
        return True

    async def _keep_house(self) -> None:
        now = time.monotonic()
        if now >= self._giving_up_check_at:
            self._giving_up_check_at = now + GIVING_UP_CHECK_S
            works = await claim_given_up(
                self._pool, wanted=AT_ONCE_MAX, look_after_s=self._poll_after_s, deadlines_s=self._deadlines_s
            )
            strays = await claim_strays(self._pool, wanted=AT_ONCE_MAX, look_after_s=self._poll_after_s)
            await _all([*(self._give_up(work) for work in works), *(self._stop_stray(stray) for stray in strays)])
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_S
            await forget_service(self._pool)


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Do all of it; a server that is away stops one piece, not the others."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, Unavailable):
            log.warning("put off", why=str(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
