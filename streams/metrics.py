"""What a worker measures of itself, by Prometheus conventions. What decisions are counted as: streams/decided.py."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from adapters.exposition import GATEWAY, WORKERS, measured_in

ADMISSION, FULFILMENT, PROJECTIONS = WORKERS

STEP_RECORDS = Counter("darkroom_step_records_total", "Records handled by a delivery step.", ["stream"])
STEP_SECONDS = Histogram(
    "darkroom_step_seconds",
    "Time of one step, from taking its batch to the acks of its outputs.",
    ["stream"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
STEP_SIZE = Histogram(
    "darkroom_step_size_records",
    "Records of one step: small while the worker keeps up, larger the more it has to do.",
    ["stream"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
)
STEP_RETRIES = Counter(
    "darkroom_step_retries_total",
    "Attempts of a step that were put off because a server was away.",
    ["stream", "server"],
)
STEP_REPLAYED = Counter(
    "darkroom_step_replayed_records_total",
    "Records whose outputs were published again after a crash, a rebalance or a commit without an answer.",
    ["stream"],
)
LANES_OPEN = Gauge("darkroom_lanes_open", "Partitions that this worker owns and has positioned.")
LANE_BYTES = Gauge("darkroom_lane_bytes", "Bytes gathered and not handled yet, over all lanes.")
LANES_FENCED = Counter(
    "darkroom_lanes_fenced_total", "Batches given up because another worker had handled the partition.", ["topic"]
)
LAG = Gauge(
    "darkroom_lag_records",
    "Offsets between the oldest record that is not handled yet and the topic's end, over this worker's partitions. The"
    " end is asked for at a scrape, at most every 5 s.",
    ["role", "topic"],
)
OLDEST_RECORD = Gauge(
    "darkroom_oldest_record_age_seconds",
    "By broker time, the age of the oldest record that has come and is not handled yet, over this worker's partitions;"
    " 0 when none. While a partition waits to be opened, for how long it has waited, if it has records.",
    ["role", "topic"],
)
SCRAPES_INCOMPLETE = Counter(
    "darkroom_scrapes_incomplete_total",
    "Scrapes that show older values since what they show could not be asked for in time.",
    ["what"],
)

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

EVENTS_PUBLISHED = Counter(
    "darkroom_events_published_total", "Records published and acked, copies after a crash included.", ["topic"]
)
DEAD_LETTERS = Counter(
    "darkroom_dead_letters_total",
    "Dead letters published, by the topic of the record that could not be handled and the reason.",
    ["topic", "reason"],
)

LIMIT_CHANGES = Counter(
    "darkroom_limit_changes_total", "Records of limits.changed.v1 that changed a policy or could not.", ["outcome"]
)

measured_in((ADMISSION, FULFILMENT), STEP_RECORDS, STEP_SECONDS, STEP_SIZE, STEP_RETRIES, STEP_REPLAYED)
measured_in(WORKERS, LANES_OPEN, LANE_BYTES, LANES_FENCED, LAG, OLDEST_RECORD, SCRAPES_INCOMPLETE, DEAD_LETTERS)
measured_in((PROJECTIONS,), PROJECTION_OLDEST_SECONDS, PROJECTION_SECONDS)
measured_in((*WORKERS, GATEWAY), EVENTS_PUBLISHED)
measured_in((ADMISSION,), LIMIT_CHANGES)


def observe_step(stream: str, records: int, seconds: float) -> None:
    """Count one step."""
    STEP_RECORDS.labels(stream).inc(records)
    STEP_SECONDS.labels(stream).observe(seconds)
    STEP_SIZE.labels(stream).observe(records)
