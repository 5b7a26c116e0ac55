"""Counting what steps have decided: once a batch, after its commit, so that a step which is rolled back counts nothing.

Requests that are decided in one batch share a few broker times, since Kafka stamps a producer's batch once. Latency is
therefore exact and still costs nothing that would be felt: one observation for each distinct time, with its count.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from operator import attrgetter

from prometheus_client import Counter, Histogram

from adapters.exposition import WeightedHistogram, measured_in
from models.accounts import LedgerEntry
from models.admission import (
    Admitted,
    Conflicting,
    Dead,
    InsufficientCredits,
    Invalid,
    RateLimited,
    Repeated,
    TooManyInFlight,
)
from models.lifecycle import ENDED
from models.outputs import Record
from models.routing import Forwarded
from models.settlement import Effects
from streams.afterwards import Afterwards
from streams.metrics import ADMISSION, FULFILMENT

OUTCOMES: dict[type, str] = {
    Admitted: "admitted",
    Repeated: "repeated",
    RateLimited: "rate_limited",
    TooManyInFlight: "rate_limited",
    InsufficientCredits: "insufficient_credits",
    Invalid: "invalid",
    Conflicting: "conflict",
    Dead: "dead",
    Forwarded: "forwarded",
}

REQUESTS = Counter(
    "darkroom_requests_total",
    "Records of generations.requested.v1 by what was decided. dead: no ids could be read; forwarded: sent on to the"
    " partition of its key, where it is decided and counted again.",
    ["outcome"],
)
DECISION_SECONDS = WeightedHistogram(
    "darkroom_decision_seconds",
    "From a request's broker time to the acks of its answer, for every request. The clocks of broker and worker must"
    " agree.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
LIMIT_HITS = Counter(
    "darkroom_limit_hits_total", "Requests that a policy has refused, by the policy and its rule.", ["policy", "rule"]
)
LIMIT_SHADOW_HITS = Counter(
    "darkroom_limit_shadow_hits_total", "Requests that a policy in shadow mode would have refused.", ["policy"]
)
GENERATIONS_ENDED = Counter(
    "darkroom_generations_ended_total",
    "Admitted requests that have ended, by operation and outcome: completed, or the reason of the failure.",
    ["operation", "outcome"],
)
COMPLETION_SECONDS = Histogram(
    "darkroom_completion_seconds",
    "From a request's admission, by broker time, to the acks of the event that ends it, for every request. Clocks of"
    " broker and worker must agree.",
    ["operation", "state"],
    buckets=(0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)
CREDITS_MOVED = Counter(
    "darkroom_credits_moved_total",
    "Credits booked, by the kind of ledger entry: charge, refund or a grant's.",
    ["kind"],
)

measured_in((ADMISSION,), REQUESTS, DECISION_SECONDS, LIMIT_HITS, LIMIT_SHADOW_HITS)
measured_in((FULFILMENT,), GENERATIONS_ENDED, COMPLETION_SECONDS)
measured_in((ADMISSION, FULFILMENT), CREDITS_MOVED)

_requests = {outcome: REQUESTS.labels(outcome) for outcome in OUTCOMES.values()}
_timestamp, _amount = attrgetter("timestamp"), attrgetter("amount")


def count_admission(
    afterwards: Afterwards,
    records: Sequence[Record],
    decisions: Sequence[object],
    entries: Sequence[LedgerEntry],
    shadowed: Mapping[str, int],
) -> None:
    """Count a batch of requests when it is committed, and its latency when it is answered."""
    afterwards.on_commit(lambda: _count_requests(decisions, entries, shadowed))
    afterwards.on_publish(lambda: _time_decisions(records))


def count_entries(afterwards: Afterwards, entries: Sequence[LedgerEntry]) -> None:
    """Count the credits that a step books."""
    afterwards.on_commit(lambda: _count_entries(entries))


def count_settlement(afterwards: Afterwards, effects: Effects) -> None:
    """Count the requests that a step ends, and what is given back."""
    ended = [
        (generation.operation, generation.state, generation.reason, generation.admitted_at_ms)
        for generation in effects.generations.values()
        if generation.state in ENDED
    ]

    def count() -> None:
        _count_entries(effects.entries)
        for operation, state, reason, _ in ended:
            GENERATIONS_ENDED.labels(operation, reason or state.value).inc()

    def published() -> None:
        now_s = time.time()
        for operation, state, _, admitted_at_ms in ended:
            COMPLETION_SECONDS.labels(operation, state.value).observe(max(0.0, now_s - admitted_at_ms / 1000))

    afterwards.on_commit(count)
    afterwards.on_publish(published)


def _count_requests(decisions: Sequence[object], entries: Sequence[LedgerEntry], shadowed: Mapping[str, int]) -> None:
    kinds = Tally(map(type, decisions))
    for kind, count in kinds.items():
        _requests[OUTCOMES[kind]].inc(count)
    if kinds[RateLimited] or kinds[TooManyInFlight]:
        for decision in decisions:
            if type(decision) is RateLimited:
                LIMIT_HITS.labels(decision.policy, "window").inc()
            elif type(decision) is TooManyInFlight:
                LIMIT_HITS.labels(decision.policy, "max_in_flight").inc()
    for policy, hits in shadowed.items():
        LIMIT_SHADOW_HITS.labels(policy).inc(hits)
    if entries:  # charges, all of them
        CREDITS_MOVED.labels("charge").inc(-sum(map(_amount, entries)))


def _count_entries(entries: Sequence[LedgerEntry]) -> None:
    moved: dict[str, int] = {}
    for entry in entries:
        moved[entry.kind] = moved.get(entry.kind, 0) + abs(entry.amount)
    for kind, amount in moved.items():
        CREDITS_MOVED.labels(kind).inc(amount)


def _time_decisions(records: Sequence[Record]) -> None:
    now_s = time.time()
    for at_ms, count in Tally(map(_timestamp, records)).items():
        DECISION_SECONDS.observe(max(0.0, now_s - at_ms / 1000), count)
