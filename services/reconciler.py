"""Reconciler: ask about what was not heard of in time, find lost runs again, end what takes too long.

With a prediction id the run's status is read and published. Without one the provider's list is searched: a run
that is found is adopted; only a search that was complete and found nothing lets the request be tried again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Iterable
from typing import Any

import structlog

from adapters.postgres import Pool, transaction
from adapters.provider import Provider
from adapters.work import (
    claim_expired,
    claim_overdue,
    forget_service,
    hand_back,
    keep_prediction,
    read_rivals,
    release_overdue,
    taken_predictions,
)
from models.errors import ProviderBusy, ProviderError, ProviderRefused, Unavailable
from models.pacing import pace_of
from models.provider_work import (
    CLOCK_SKEW_MAX_S,
    DEADLINE_S,
    Model,
    Work,
    adopted,
    expired,
    is_over,
    prediction_id_of,
    seconds_of,
    tells_nothing_new,
    updated,
)
from services.hands import Hands
from services.metrics import PROVIDER_CALLS, REQUESTS_EXPIRED, RUNS_ADOPTED, RUNS_TRIED_AGAIN
from streams.crash_points import crash_point
from streams.facts import FactPublisher

log = structlog.get_logger()

AT_ONCE_MAX = 16
READS_PER_MINUTE = 2400
LEASE_FACTOR = 1.5
LEASE_MARGIN_S = 2.0
PAGES_MAX = 50
EXPIRY_CHECK_S = 1.0
HOUSEKEEPING_S = 3600.0


class Reconciler:
    """Polls, adopts, expires; one round at a time."""

    name = "reconciler"
    idle_s = 0.5

    def __init__(
        self,
        pool: Pool,
        provider: Provider,
        facts: FactPublisher,
        *,
        model: Model,
        timeout_s: float,
        poll_after_s: float,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.hands = Hands(self.name, AT_ONCE_MAX)
        self._pool = pool
        self._provider = provider
        self._facts = facts
        self._model = model
        self._pace = pace_of(READS_PER_MINUTE)
        self._lease_s = timeout_s * LEASE_FACTOR + LEASE_MARGIN_S
        self._poll_after_s = poll_after_s
        self._deadline_s = deadline_s
        self._expiry_check_at = 0.0
        self._housekeeping_at = time.monotonic() + HOUSEKEEPING_S

    async def tick(self) -> int:
        """Work off one round; returns its size. Raises Unavailable."""
        await self._keep_house()
        async with transaction(self._pool) as held:
            works = await claim_overdue(
                held,
                self._pace,
                self._model,
                wanted=AT_ONCE_MAX,
                lease_s=self._lease_s,
                look_after_s=self._poll_after_s,
            )
        if not works:
            return 0
        crash_point(self.name, 1)  # leased, nothing asked: looked at again when the lease is over
        lost = [work for work in works if work.prediction_id is None]
        known = [work for work in works if work.prediction_id is not None]
        await _all([*(self._poll(work) for work in known), self._search(lost)])
        await release_overdue(self._pool, works)
        return len(works)

    async def _poll(self, work: Work) -> None:
        assert work.prediction_id is not None
        try:
            body = await self._provider.get(work.prediction_id)
            PROVIDER_CALLS.labels("get", "answered").inc()
        except (ProviderBusy, ProviderRefused) as error:
            PROVIDER_CALLS.labels("get", error.code).inc()
            log.warning("poll failed", request=work.request_id, prediction=work.prediction_id, why=str(error))
            body = {}
        status = body.get("status")
        if self._is_late(work) and not is_over(status):
            await self._expire(work)
        elif body and not tells_nothing_new(work.state, status):
            await self._facts.prediction(updated(work, body, "reconciler"))

    async def _search(self, works: list[Work]) -> None:
        """Find the runs of requests whose answer was lost."""
        for work in works:
            if self._is_late(work):
                await self._expire(work)
        lost = [work for work in works if not self._is_late(work)]
        if not lost:
            return
        try:
            bodies, is_complete = await self._list_since(min(work.submitted_at for work in lost) - CLOCK_SKEW_MAX_S)
            PROVIDER_CALLS.labels("list", "answered").inc()
        except ProviderError as error:
            PROVIDER_CALLS.labels("list", error.code).inc()
            log.warning("search failed", requests=len(lost), why=str(error))
            return
        # In this order: what was adopted by others since the list was made is seen as taken.
        taken = await taken_predictions(self._pool, [found for body in bodies if (found := prediction_id_of(body))])
        chosen_seeds = [work for work in lost if work.options.seed is not None]
        rivals = await read_rivals(self._pool, chosen_seeds, self._model) if chosen_seeds else []
        runs, unclear = adopted(lost, bodies, taken, rivals)
        for work in lost:
            if work.identity in runs:
                await self._adopt(work, runs[work.identity])
            elif work.identity in unclear:
                log.warning("run not certain, waiting for its webhook", user=work.user_id, request=work.request_id)
            elif is_complete and await hand_back(self._pool, work, delay_s=random.random()):  # noqa: S311
                RUNS_TRIED_AGAIN.inc()
                log.info("no run found, queued again", user=work.user_id, request=work.request_id)

    async def _list_since(self, since_s: float) -> tuple[list[dict[str, Any]], bool]:
        """(runs, whether these are all since then)."""
        bodies: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page, cursor = await self._provider.list_page(cursor)
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
            await self._facts.prediction(updated(work, body, "reconciler"))

    def _is_late(self, work: Work) -> bool:
        return work.age_s >= self._deadline_s

    async def _expire(self, work: Work) -> None:
        """The refund first: a provider that is away must not hold it up."""
        await self._facts.prediction(expired(work))
        REQUESTS_EXPIRED.inc()
        log.warning("request expired", user=work.user_id, request=work.request_id, prediction=work.prediction_id)
        crash_point(self.name, 3)  # the run goes on at the provider until it ends by itself; nobody waits for it
        if work.prediction_id is not None:
            try:
                await self._provider.cancel(work.prediction_id)
            except ProviderError as error:
                log.warning("run not cancelled", prediction=work.prediction_id, why=str(error))

    async def _keep_house(self) -> None:
        now = time.monotonic()
        if now >= self._expiry_check_at:
            self._expiry_check_at = now + EXPIRY_CHECK_S
            late = await claim_expired(
                self._pool,
                self._model,
                wanted=AT_ONCE_MAX,
                deadline_s=self._deadline_s,
                look_after_s=self._poll_after_s,
            )
            await _all(self._expire(work) for work in late)
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
