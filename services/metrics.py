"""What the services count."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from models.sampling import PROPAGATION_S

PROVIDER_CALLS = Counter("darkroom_provider_calls_total", "Calls to the provider.", ("call", "outcome"))
PROVIDER_CREATE_SECONDS = Histogram(
    "darkroom_provider_create_seconds",
    "From sending a creation to its answer.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PROVIDER_HELD_SECONDS = Counter(
    "darkroom_provider_held_seconds_total", "How long all creation was held because the provider asked for it."
)
PROVIDER_STARTED = Gauge(
    "darkroom_provider_started_last_hour", "Runs begun within the last hour, over all workers, as last counted."
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
