"""What the adapters count."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

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
