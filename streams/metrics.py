"""What a worker measures of itself, by Prometheus conventions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from models.admission import RateLimited, TooManyInFlight

STEP_RECORDS = Counter("darkroom_step_records_total", "Records handled by a delivery step.", ["stream"])
STEP_SECONDS = Histogram(
    "darkroom_step_seconds",
    "Time of one step, from taking its batch to the acks of its outputs.",
    ["stream"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
LANES_OPEN = Gauge("darkroom_lanes_open", "Partitions that this worker owns and has positioned.")
LANE_BYTES = Gauge("darkroom_lane_bytes", "Bytes gathered and not handled yet, over all lanes.")


PROJECTION_OLDEST_SECONDS = Gauge(
    "darkroom_projection_oldest_event_age_seconds",
    "By the records' broker time, the age of the oldest event that has come and is not applied yet; 0 when none.",
    ["topic"],
)
PROJECTION_SECONDS = Histogram(
    "darkroom_projection_seconds",
    "From an event's broker time to its being applied, for the oldest event of each batch.",
    ["topic"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
)


def observe_step(stream: str, records: int, seconds: float) -> None:
    """Count one step."""
    STEP_RECORDS.labels(stream).inc(records)
    STEP_SECONDS.labels(stream).observe(seconds)


LIMIT_HITS = Counter(
    "darkroom_limit_hits_total", "Requests that a policy has refused, by the policy and its rule.", ["policy", "rule"]
)
LIMIT_SHADOW_HITS = Counter(
    "darkroom_limit_shadow_hits_total", "Requests that a policy in shadow mode would have refused.", ["policy"]
)
LIMIT_CHANGES = Counter(
    "darkroom_limit_changes_total", "Records of limits.changed.v1 that changed a policy or could not.", ["outcome"]
)


def observe_limits(decisions: Iterable[object], shadowed: Mapping[str, int]) -> None:
    """Count a batch's refusals for limits, and those that shadow mode did not make."""
    for decision in decisions:
        if type(decision) is RateLimited:
            LIMIT_HITS.labels(decision.policy, "window").inc()
        elif type(decision) is TooManyInFlight:
            LIMIT_HITS.labels(decision.policy, "max_in_flight").inc()
    for policy, hits in shadowed.items():
        LIMIT_SHADOW_HITS.labels(policy).inc(hits)
