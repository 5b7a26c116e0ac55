"""Dispatcher: hand queued requests to the provider, paced over all workers and fair between users.

The provider has no idempotency key, so: commit the intent, POST once, commit the prediction id, publish the fact.
A request whose answer is lost stays `submitting`; the reconciler finds its run, or queues it again when it is
certain that there is none. Once an hour's runs are used up, over all workers, the queue is held.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import structlog

from adapters.postgres import Pool, transaction
from adapters.provider import Provider
from adapters.strays import write_strays
from adapters.work import (
    claim_queued,
    give_start_back,
    hand_back,
    hold_pace,
    is_any_queued,
    keep_prediction,
    look_soon,
)
from models.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderSilent, Unavailable
from models.operations import DEADLINES_S
from models.pacing import pace_of
from models.provider_work import (
    RETRY_AFTER_MAX_S,
    Models,
    Work,
    prediction_id_of,
    rejected,
    retry_delay_s,
    started,
    webhook_url,
)
from models.settlement import StrayRun
from services.hands import Hands
from services.metrics import (
    PROVIDER_HELD_SECONDS,
    PROVIDER_PER_HOUR,
    PROVIDER_STARTED,
    SPEND_BREAKER,
    provider_call,
)
from streams.crash_points import crash_point
from streams.facts import FactPublisher

log = structlog.get_logger()

AT_ONCE_MAX = 32
PER_USER_MAX = 3
# A lease outlives the call it covers by half of its time: whoever holds it is never suspected too early.
LEASE_FACTOR = 1.5
# One throttled call may be about that call; this many of the last few are about our account.
THROTTLED_OF_LAST = (3, 10)


class Dispatcher:
    """Claims, submits, reports."""

    name = "dispatcher"
    idle_s = 0.2

    def __init__(
        self,
        pool: Pool,
        provider: Provider,
        facts: FactPublisher,
        *,
        models: Models,
        webhook_base_url: str,
        per_minute: int,
        per_hour_max: int,
        timeout_s: float,
        start_window_s: float,
        poll_after_s: float,
        deadlines_s: Mapping[str, float] = DEADLINES_S,
    ) -> None:
        self.hands = Hands(self.name, AT_ONCE_MAX)
        self._pool = pool
        self._provider = provider
        self._facts = facts
        self._models = models
        self._webhook_base_url = webhook_base_url
        self._pace = pace_of(per_minute)
        self._per_hour_max = per_hour_max
        self._lease_s = timeout_s * LEASE_FACTOR
        self._start_window_s = start_window_s
        self._poll_after_s = poll_after_s
        self._deadlines_s = deadlines_s
        self._is_broken_off = False
        self._throttled: deque[bool] = deque(maxlen=THROTTLED_OF_LAST[1])
        PROVIDER_PER_HOUR.set(per_hour_max)

    async def tick(self) -> int:
        """Claim a round and begin to submit it; returns its size. Raises Unavailable."""
        free = await self.hands.wait_free(AT_ONCE_MAX // 2, self.idle_s)
        if free <= 0:
            return 0
        if not await is_any_queued(self._pool):
            self._watch_spending(False)
            return 0
        async with transaction(self._pool) as held:
            claimed = await claim_queued(
                held,
                self._pace,
                self._models,
                wanted=free,
                per_user_max=PER_USER_MAX,
                per_hour_max=self._per_hour_max,
                lease_s=self._lease_s,
                look_after_s=max(self._start_window_s, self._lease_s),
                deadlines_s=self._deadlines_s,
            )
            works = claimed.works
            if works:
                crash_point(self.name, 1)  # nothing is committed: the rows stay queued
        if claimed.is_broken_off is not None:
            PROVIDER_STARTED.set(claimed.started)
            self._watch_spending(claimed.is_broken_off)
        if works:
            crash_point(self.name, 2)  # intent without a run: queued again once the start window has passed
        for work in works:
            self.hands.take(self._submit(work))
        return len(works)

    def _watch_spending(self, is_broken_off: bool) -> None:
        if is_broken_off and not self._is_broken_off:
            log.warning("spending stopped, the queue is held", per_hour_max=self._per_hour_max)
        elif self._is_broken_off and not is_broken_off:
            log.info("spending goes on", per_hour_max=self._per_hour_max)
        self._is_broken_off = is_broken_off
        SPEND_BREAKER.set(is_broken_off)

    async def _submit(self, work: Work) -> None:
        try:
            body = await self._create(work)
            if body is not None:
                crash_point(self.name, 3)  # a run that we do not know: its webhook or the list brings it back
                await self._report(work, body)
        except Unavailable as error:
            log.warning("left to the reconciler", user=work.user_id, request=work.request_id, why=str(error))

    async def _create(self, work: Work) -> dict[str, Any] | None:
        """The new run's body; None when there is none, or none that we know of."""
        try:
            with provider_call("create", "created"):
                body = await self._provider.create(work, webhook_url(self._webhook_base_url, work))
        except ProviderBusy as busy:
            await self._wait(work, busy)
        except ProviderRefused as refused:
            log.info("request refused", user=work.user_id, request=work.request_id, why=str(refused))
            await self._facts.prediction(rejected(work, str(refused)), work.traceparent)
            await give_start_back(self._pool, work)
        except ProviderSilent as silent:
            log.warning("answer lost", user=work.user_id, request=work.request_id, why=str(silent))
            if silent.is_over:
                delay_s = retry_delay_s(work.attempt, random.random())  # noqa: S311
                await look_soon(self._pool, work, delay_s=delay_s)
        else:
            self._throttled.append(False)
            return body
        return None

    async def _wait(self, work: Work, busy: ProviderBusy) -> None:
        delay_s = retry_delay_s(work.attempt, random.random(), busy.retry_after_s)  # noqa: S311
        log.info("provider busy", user=work.user_id, request=work.request_id, why=str(busy), delay_s=round(delay_s, 1))
        self._throttled.append(busy.retry_after_s is not None)
        if busy.retry_after_s is not None and sum(self._throttled) >= THROTTLED_OF_LAST[0]:
            hold_s = min(busy.retry_after_s, RETRY_AFTER_MAX_S)
            self._throttled.clear()
            await hold_pace(self._pool, self._pace, hold_s)
            PROVIDER_HELD_SECONDS.inc(hold_s)
            log.warning("creation held", why=str(busy), hold_s=hold_s)
        await hand_back(self._pool, work, delay_s=delay_s)

    async def _report(self, work: Work, body: dict[str, Any]) -> None:
        prediction_id = prediction_id_of(body) or ""
        kept = await keep_prediction(self._pool, work, prediction_id, look_after_s=self._poll_after_s)
        crash_point(self.name, 4)  # known but not announced: the reconciler polls it
        if kept == prediction_id:
            await self._facts.prediction(started(work, body), work.traceparent)
            return
        # The request ended meanwhile, or an earlier run of it has announced itself: this one is one too many.
        log.warning("run not needed", request=work.request_id, prediction=prediction_id, kept=kept)
        try:
            with provider_call("cancel"):
                await self._provider.cancel(prediction_id, work.collection)
        except ProviderError as error:
            log.warning("run not cancelled yet", prediction=prediction_id, why=str(error))
            async with transaction(self._pool) as held:
                await write_strays(held, [StrayRun(prediction_id, work.collection, *work.identity)])
