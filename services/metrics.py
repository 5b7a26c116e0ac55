"""What the services count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from adapters.exposition import WORKERS, measured_in
from models.errors import ProviderError
from models.sampling import PROPAGATION_S

ADMISSION, FULFILMENT, PROJECTIONS = WORKERS

PROVIDER_CALLS = Counter("darkroom_provider_calls_total", "Calls to the provider by outcome.", ("call", "outcome"))
PROVIDER_CALL_SECONDS = Histogram(
    "darkroom_provider_call_seconds",
    "From sending a call to its answer, or to the end of waiting for one.",
    ("call",),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PROVIDER_HELD_SECONDS = Counter(
    "darkroom_provider_held_seconds_total", "How long all creation was held because the provider asked for it."
)
PROVIDER_STARTED = Gauge(
    "darkroom_provider_started_last_hour", "Runs begun within the last hour, over all workers (each shows the same)."
)
PROVIDER_PER_HOUR = Gauge(
    "darkroom_provider_starts_per_hour_max",
    "Runs within an hour at which the spend breaker holds the queue; 0 when there is no breaker.",
)
SPEND_BREAKER = Gauge("darkroom_spend_breaker_open", "1 while the hour's runs are used up and the queue is held.")
RUNS_ADOPTED = Counter("darkroom_runs_adopted_total", "Runs found again after their answer was lost.")
RUNS_TRIED_AGAIN = Counter("darkroom_runs_tried_again_total", "Requests queued again since no run was found.")
REQUESTS_CANCELLED = Counter("darkroom_requests_cancelled_total", "Cancelled requests that the reconciler has ended.")
RUNS_STOPPED = Counter("darkroom_runs_stopped_total", "Cancels that the provider was asked for.", ("outcome",))
REQUESTS_EXPIRED = Counter("darkroom_requests_expired_total", "Requests past their deadline.")
OUTPUTS = Counter("darkroom_outputs_total", "Outputs by what became of them.", ("outcome",))
KEEP_SECONDS = Histogram(
    "darkroom_keep_seconds",
    "From claiming a request's outputs to their fact.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
OBJECTS_LOOKED_AT = Counter("darkroom_objects_looked_at_total", "Objects that the sweeper has looked at.")
OBJECTS_SWEPT = Counter("darkroom_objects_swept_total", "Orphan objects deleted, by what they were.", ("folder",))
UNFINISHED_REQUESTS = Gauge(
    "darkroom_unfinished_requests",
    "Requests in each unfinished state, over all workers (each shows the same); asked at most every 5 s.",
    ("state",),
)
OLDEST_UNFINISHED = Gauge(
    "darkroom_oldest_unfinished_request_age_seconds",
    "Since when the request that was admitted first of those in a state is admitted, over all workers; 0 when none.",
    ("state",),
)
IN_HAND = Gauge("darkroom_service_in_hand", "Pieces of work under way.", ("service",))
TROUBLES = Counter("darkroom_service_waits_total", "Rounds put off because a server was away.", ("service",))
CACHE_SAMPLES = Counter("darkroom_credit_cache_samples_total", "Cached balances compared with Postgres.")
CACHE_BEHIND = Counter(
    "darkroom_credit_cache_behind_samples_total", "Compared balances before Postgres's version, most awaiting an event."
)
CACHE_STALE = Counter(
    "darkroom_credit_cache_stale_samples_total", f"Compared balances behind for {PROPAGATION_S:g} s or longer."
)
CACHE_WRONG = Counter(
    "darkroom_credit_cache_wrong_samples_total", "Compared balances that differ from Postgres as no delay explains."
)
CACHE_STALE_RATIO = Gauge("darkroom_credit_cache_stale_ratio", "Stale share of what the last 60 looks compared.")
CACHE_STALE_AGE_SECONDS = Gauge(
    "darkroom_credit_cache_stale_age_seconds",
    "For how long the worst entry of the last look has been behind, if stale.",
)

measured_in(
    (FULFILMENT,),
    *(PROVIDER_CALLS, PROVIDER_CALL_SECONDS, PROVIDER_HELD_SECONDS, PROVIDER_STARTED, PROVIDER_PER_HOUR, SPEND_BREAKER),
    *(RUNS_ADOPTED, RUNS_TRIED_AGAIN, RUNS_STOPPED, REQUESTS_CANCELLED, REQUESTS_EXPIRED),
    *(OUTPUTS, KEEP_SECONDS, OBJECTS_LOOKED_AT, OBJECTS_SWEPT, UNFINISHED_REQUESTS, OLDEST_UNFINISHED),
)
measured_in((FULFILMENT, PROJECTIONS), IN_HAND, TROUBLES)
measured_in(
    (PROJECTIONS,),
    *(CACHE_SAMPLES, CACHE_BEHIND, CACHE_STALE, CACHE_WRONG, CACHE_STALE_RATIO, CACHE_STALE_AGE_SECONDS),
)


@contextmanager
def provider_call(call: str, done: str = "answered") -> Iterator[None]:
    """Time and count one call to the provider: `done`, or the code of its error. A call given up midway is `broken`."""
    began, outcome = time.perf_counter(), "broken"
    try:
        yield
        outcome = done
    except ProviderError as error:
        outcome = error.code
        raise
    finally:
        PROVIDER_CALLS.labels(call, outcome).inc()
        PROVIDER_CALL_SECONDS.labels(call).observe(time.perf_counter() - began)
