"""What the adapters count."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from adapters.exposition import GATEWAY, WORKERS, measured_in

ADMISSION, FULFILMENT, PROJECTIONS = WORKERS

POOL_CONNECTIONS = Gauge(
    "darkroom_postgres_pool_connections", "Open connections to Postgres: used, or idle.", ["pool", "state"]
)
POOL_MAX = Gauge("darkroom_postgres_pool_connections_max", "How many connections the pool may open.", ["pool"])
POOL_WAITING = Gauge("darkroom_postgres_pool_waiting", "Tasks that wait for a connection of the pool.", ["pool"])
POOL_ACQUIRE_SECONDS = Histogram(
    "darkroom_postgres_pool_acquire_seconds",
    "From asking the pool for a connection to having it, making it included.",
    ["pool"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
POOL_FAILURES = Counter(
    "darkroom_postgres_pool_failures_total", "Asked for a connection and got none: timeouts, or no server.", ["pool"]
)

CACHE_HITS = Counter("darkroom_credit_cache_hits_total", "Balance reads answered from the cache.")
CACHE_MISSES = Counter("darkroom_credit_cache_misses_total", "Balance reads that the cache had nothing usable for.")
CACHE_FALLBACKS = Counter("darkroom_credit_cache_fallbacks_total", "Balance reads made while the cache was away.")
CACHE_JOINS = Counter(
    "darkroom_credit_cache_joins_total", "Balance reads that shared the question another read put to Postgres."
)
CACHE_RENEWALS = Counter("darkroom_credit_cache_renewals_total", "Entries read again before they expired.")
CACHE_QUERIES = Counter("darkroom_credit_cache_queries_total", "Queries for balances, each for a batch of users.")
CACHE_REFUSALS = Counter("darkroom_credit_cache_refusals_total", "Balance reads refused since too many waited.")
CACHE_FILLS = Counter("darkroom_credit_cache_fills_total", "Balances from Postgres by what the cache did.", ["outcome"])
CACHE_UP = Gauge("darkroom_credit_cache_up", "1 while the cache answers, 0 while reads go to Postgres instead.")

measured_in((*WORKERS, GATEWAY), POOL_CONNECTIONS, POOL_MAX, POOL_WAITING, POOL_ACQUIRE_SECONDS, POOL_FAILURES)
measured_in(
    (PROJECTIONS, GATEWAY),
    *(CACHE_HITS, CACHE_MISSES, CACHE_FALLBACKS, CACHE_JOINS, CACHE_RENEWALS, CACHE_QUERIES, CACHE_REFUSALS),
    *(CACHE_FILLS, CACHE_UP),
)
