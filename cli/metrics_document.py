"""docs/metrics.md, made from the metrics that the processes register. `python -m cli.documents` writes it."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from prometheus_client import REGISTRY, Counter
from prometheus_client.registry import Collector

from adapters.exposition import PROCESSES, WORKERS, where_of

EVERYTHING = ("cli.roles", "gateway.app", "devstack.emulator.app")
"""What the processes are made of; importing it registers every metric."""
PREFIX = "darkroom_"

INTRODUCTION = """\
# Metrics

Written by `python -m cli.documents` from the code; a test fails when it is behind. Every process answers `GET /metrics`
in Prometheus's text format: a worker at the address of its line `… health on http://…` (`DARKROOM_METRICS_HOST`,
`DARKROOM_METRICS_PORT`), the gateway and the emulator beside their other routes. A process shows what is measured in
it, and of Python and itself `python_*` and `process_*`: `process_start_time_seconds` moves when it was started again.

Counters are of one process and begin with 0 at its start. What a step decides is counted after its commit, once: a
step that is rolled back, and one that is replayed after a crash, counts nothing. No label holds an id of a user, a
request or a picture.
"""

WATCHED = (
    ("requests a second, by what was decided", "sum by (outcome) (rate(darkroom_requests_total[5m]))"),
    (
        "decided within, 99 of 100",
        "histogram_quantile(0.99, sum by (le) (rate(darkroom_decision_seconds_bucket[5m])))",
    ),
    ("records behind, by role and topic", "sum by (role, topic) (darkroom_lag_records)"),
    ("age of the oldest record, likewise", "max by (role, topic) (darkroom_oldest_record_age_seconds)"),
    ("oldest unfinished request", "max by (state) (darkroom_oldest_unfinished_request_age_seconds)"),
    ("dead letters within the hour", "sum by (topic, reason) (increase(darkroom_dead_letters_total[1h]))"),
    (
        "pool in use",
        'darkroom_postgres_pool_connections{state="used"} / on (instance, pool) darkroom_postgres_pool_connections_max',
    ),
    ("credits spent and given back within the hour", "sum by (kind) (increase(darkroom_credits_moved_total[1h]))"),
    ("share of the spend breaker", "darkroom_provider_started_last_hour / darkroom_provider_starts_per_hour_max"),
    (
        "hit rate of the cache",
        "rate(darkroom_credit_cache_hits_total[5m])"
        " / (rate(darkroom_credit_cache_hits_total[5m]) + rate(darkroom_credit_cache_misses_total[5m]))",
    ),
)


class Family(NamedTuple):
    """One metric; `name` as it is queried, `bounds` the first and last of a histogram's buckets."""

    name: str
    type: str
    labels: tuple[str, ...]
    where: tuple[str, ...]
    help: str
    bounds: str = ""


def families() -> list[Family]:
    """Every metric of ours, in all processes, by name."""
    for module in EVERYTHING:
        importlib.import_module(module)
    found = [_family(collector) for collector in list(REGISTRY._collector_to_names)]
    return sorted(family for family in found if family is not None)


def _family(collector: Collector) -> Family | None:
    if not hasattr(collector, "_labelnames"):
        return None  # Python's own and the process's
    (described,) = collector.describe()  # type: ignore[attr-defined]
    name = described.name + ("_total" if isinstance(collector, Counter) else "")
    if not name.startswith(PREFIX):
        return None
    bounds = list(getattr(collector, "bounds", None) or getattr(collector, "_upper_bounds", []))
    span = f"{bounds[0]:g} to {bounds[-2]:g}" if bounds else ""
    labels = tuple(collector._labelnames)
    return Family(name, described.type, labels, where_of(described.name), described.documentation, span)


def document() -> str:
    """The whole file."""
    lines = [INTRODUCTION, "## All of them", "", "| name | type | labels | where | what |", "|---|---|---|---|---|"]
    for family in families():
        type_ = f"{family.type}, {family.bounds}" if family.bounds else family.type
        labels = " ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {type_} | {labels} | {_where(family.where)} | {family.help} |")
    lines += ["", "## What to watch", "", "| what | query |", "|---|---|"]
    lines += [f"| {what} | `{query}` |" for what, query in WATCHED]
    return "\n".join(lines) + "\n"


def _where(processes: tuple[str, ...]) -> str:
    if processes == PROCESSES:
        return "everywhere"
    if set(WORKERS) <= set(processes):
        return ", ".join(["workers", *(process for process in processes if process not in WORKERS)])
    return ", ".join(processes)
