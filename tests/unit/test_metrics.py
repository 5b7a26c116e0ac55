"""Names by Prometheus's conventions, the document, and the parts that measure."""

from __future__ import annotations

import asyncio
import re
from collections import Counter as Tally
from random import Random

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest

from adapters.exposition import PROCESSES, WeightedHistogram, exposition
from cli.documents import FOLDER
from cli.metrics_document import WATCHED, Family, document, families
from models.errors import Unavailable
from streams.scrapes import Seldom
from tests.support.scraping import parsed

FAMILIES = families()
IDS = re.compile(r"(^|_)(id|user|request|key|offset|path|url|image)($|_)")


def test_the_committed_document_is_that_of_the_code() -> None:
    assert (FOLDER / "metrics.md").read_text(encoding="utf-8") == document(), "run `python -m cli.documents`"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_metric_follows_the_conventions(family: Family) -> None:
    assert re.fullmatch(r"darkroom_[a-z][a-z0-9]*(_[a-z0-9]+)*", family.name)
    assert (family.type == "counter") == family.name.endswith("_total")
    assert not re.search(r"_(count|sum|bucket|info|created)(_total)?$", family.name), "names that the format takes"
    assert not re.search(r"milli|micro|minutes|_ms\b|_ms_|kilo|mega|percent|_s(_total)?$", family.name), "base units"
    if family.type == "histogram":
        assert family.name.endswith(("_seconds", "_bytes", "_records")), "what its buckets are in"
        assert family.bounds
    if unit := next((unit for unit in ("seconds", "bytes", "ratio") if f"_{unit}_" in family.name), None):
        assert family.name.endswith((f"_{unit}_total", f"_{unit}_max")), "the unit comes last"
    assert family.type not in family.name.split("_"), "a type is not a name"
    assert family.help.endswith(".")
    assert len(family.help) > 15
    assert family.help[0].isupper() or family.help[0].isdigit()
    assert family.where, "it is shown nowhere"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_labels_are_few_and_bounded(family: Family) -> None:
    assert len(family.labels) <= 3
    for label in family.labels:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", label)
        assert not IDS.search(label), "an id makes a series of its own for each"
        assert label not in ("le", "quantile", "instance", "job"), "Prometheus's own"
        assert f"_by_{label}" not in family.name, "what a label says, a name does not repeat"


def test_what_is_asked_for_is_measured() -> None:
    """Requests, latencies, limits, lag, steps, pools, the cache, the provider, spending, dead letters."""
    named = {family.name: family for family in FAMILIES}
    for name, labels, where in (
        ("darkroom_requests_total", ("outcome",), "admission"),
        ("darkroom_decision_seconds", (), "admission"),
        ("darkroom_completion_seconds", ("operation", "state"), "fulfilment"),
        ("darkroom_limit_hits_total", ("policy", "rule"), "admission"),
        ("darkroom_lag_records", ("role", "topic"), "projections"),
        ("darkroom_oldest_record_age_seconds", ("role", "topic"), "admission"),
        ("darkroom_step_seconds", ("stream",), "fulfilment"),
        ("darkroom_step_size_records", ("stream",), "admission"),
        ("darkroom_postgres_pool_connections", ("pool", "state"), "gateway"),
        ("darkroom_credit_cache_hits_total", (), "gateway"),
        ("darkroom_credit_cache_stale_ratio", (), "projections"),
        ("darkroom_provider_calls_total", ("call", "outcome"), "fulfilment"),
        ("darkroom_credits_moved_total", ("kind",), "admission"),
        ("darkroom_spend_breaker_open", (), "fulfilment"),
        ("darkroom_dead_letters_total", ("topic", "reason"), "projections"),
        ("darkroom_http_requests_total", ("method", "route", "status"), "gateway"),
    ):
        assert named[name].labels == labels
        assert where in named[name].where


def test_queries_in_the_document_name_metrics_that_are_there() -> None:
    known = {family.name for family in FAMILIES} | {f"{family.name}_bucket" for family in FAMILIES}
    asked = {name for _, query in WATCHED for name in re.findall(r"darkroom_\w+", query)}
    assert asked
    assert asked <= known


def test_a_process_shows_what_it_measures_and_nothing_of_the_others() -> None:
    shown = {process: exposition(process).decode() for process in PROCESSES}
    for family in FAMILIES:
        for process, text in shown.items():
            header = f"# TYPE {family.name.removesuffix('_total')}"
            there = re.search(rf"^{header}(_total)? ", text, re.MULTILINE) is not None
            assert there == (process in family.where), (family.name, process)
    for process, text in shown.items():
        assert "process_start_time_seconds" in parsed(text).names(), process


def test_a_weighted_histogram_shows_what_a_usual_one_would() -> None:
    random = Random(20)
    buckets = (0.1, 0.5, 1, 5)
    usual_in, weighted_in = CollectorRegistry(), CollectorRegistry()
    usual = Histogram("darkroom_x_seconds", "Of a test.", buckets=buckets, registry=usual_in)
    weighted = WeightedHistogram("darkroom_x_seconds", "Of a test.", buckets=buckets, registry=weighted_in)
    values = Tally(random.choice([0.05, 0.1, 0.3, 0.5, 1.0, 4.9, 5.0, 5.1, 99.0]) for _ in range(500))
    for value in values.elements():
        usual.observe(value)
    weighted.observe_each(values)

    def samples(registry: CollectorRegistry) -> dict[tuple[str, float | None], float]:
        found = parsed(generate_latest(registry).decode()).values
        return {
            (name, next((float(bound) for _, bound in labels), None)): round(value, 6)
            for (name, labels), value in found.items()
            if not name.endswith("_created")
        }

    assert samples(weighted_in) == samples(usual_in)
    assert samples(weighted_in)["darkroom_x_seconds_count", None] == 500


async def test_a_scrape_asks_seldom_and_outlives_a_server_that_is_away_or_silent() -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Unavailable("Kafka", "it is away")
        await asyncio.Event().wait()

    def incomplete() -> float:
        return REGISTRY.get_sample_value("darkroom_scrapes_incomplete_total", {"what": "a test"}) or 0.0

    often = Seldom("a test", ask, every_s=0.0, timeout_s=0.05)
    await often()
    assert (asked, incomplete()) == (1, 1)
    await often()
    assert (asked, incomplete()) == (2, 2)
    seldom = Seldom("a test", ask, every_s=60.0, timeout_s=0.05)
    await asyncio.gather(*(seldom() for _ in range(5)))
    assert (asked, incomplete()) == (3, 3)
