"""What the credit cache is worth, and whether it is right: reads through it beside reads straight from Postgres.

Run with `python -m bench.credit_reads`. Many readers in one process, as in a gateway, read in a Zipf order. Meanwhile
grants go through Kafka and the admission worker into Postgres, and their events through the projections worker into
the cache. Every answer is checked afterwards against the events. The last line is JSON.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import uvloop

from bench.credit_readers import Record
from bench.credit_rounds import Bench, Options
from bench.stage import run_bench, say

PARTITIONS = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit code 0 if nothing was violated."""
    options = _options(arguments)
    return run_bench(
        lambda settings, home: summary(uvloop.run(Bench(settings, options, home, say).run()), options),
        partitions=PARTITIONS,
    )


def summary(measured: dict[str, Any], options: Options) -> dict[str, Any]:
    """The last line. One violation makes the result void."""
    cached, direct, records, sampled = (measured[name] for name in ("cached", "direct", "records", "sampled"))
    queries = measured["queries"] + sampled["queries"]
    violations = {
        "too_old": sum(one.too_old for one in measured["freshness"].values()),
        "backwards": sum(record.backwards for record in records.values()),
        "failed": sum(record.failed for record in records.values()),
        "sampled_stale": int(sampled["stale_samples"]),
        "sampled_wrong": int(sampled["wrong_samples"]),
        "books": measured["audit"].violations,
    }
    return {
        "bench": "credit_reads",
        "reads": len(records["cached"]),
        "hit_rate": round(measured["hits"] / options.reads, 5),
        "queries_saved": round(1 - queries / options.reads, 5),
        "reads_per_core_s": round(cached["per_core_s"]),
        "direct_reads_per_core_s": round(direct["per_core_s"]),
        "ratio": round(cached["per_core_s"] / direct["per_core_s"], 2),
        "p99_ms": percentile_ms(records["cached_latency"], 0.99),
        "direct_p99_ms": percentile_ms(records["direct_latency"], 0.99),
        "violations": sum(violations.values()),
        "violations_by_kind": violations,
        "events": measured["events"],
        "stale_reads": measured["freshness"]["cached"].stale,
        "oldest_ms": measured["freshness"]["cached"].oldest_ms,
        "propagation_ms": round(options.propagation_s * 1000),
        "misses": measured["misses"],
        "renewals": measured["renewals"],
        "cold_misses": measured["cold_misses"],
        "fallbacks": measured["fallbacks"],
        "queries": int(queries),
        "sampled": int(sampled["samples"]),
        "sampled_behind": int(sampled["behind_samples"]),
        "p50_ms": percentile_ms(records["cached_latency"], 0.50),
        "direct_p50_ms": percentile_ms(records["direct_latency"], 0.50),
        "full_speed_p99_ms": percentile_ms(records["cached"], 0.99),
        "direct_full_speed_p99_ms": percentile_ms(records["direct"], 0.99),
        **{f"{name}_{figure}": round(value, 2) for name, run in (("cached", cached), ("direct", direct))
           for figure, value in run.items() if figure != "per_core_s"},
    }  # fmt: skip


def percentile_ms(record: Record, share: float) -> float | None:
    """The seconds that reads took, as milliseconds at this share of them."""
    took_s = sorted(record.took_s)
    return round(took_s[min(len(took_s) - 1, int(len(took_s) * share))] * 1000, 2) if took_s else None


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench.credit_reads", description=__doc__)
    parser.add_argument("--reads", type=int, default=1_000_000, help="reads through the cache")
    parser.add_argument("--direct-reads", type=int, default=50_000, help="reads straight from Postgres")
    parser.add_argument("--warm-up", type=int, default=100_000, help="reads before, from an empty cache, not counted")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--exponent", type=float, default=1.0, help="of the Zipf order")
    parser.add_argument("--readers", type=int, default=512, help="reads under way at once, at full speed")
    parser.add_argument("--writes", type=int, default=100, help="grants a second")
    parser.add_argument("--latency-rate", type=int, default=2_000, help="reads a second when latency is measured")
    parser.add_argument("--latency-s", type=float, default=5.0, help="how long, for each")
    parser.add_argument("--propagation-s", type=float, default=1.0, help="a read older than this is a violation")
    parser.add_argument("--seed", type=int, default=7)
    parsed = parser.parse_args(arguments)
    return Options(
        reads=parsed.reads,
        direct_reads=parsed.direct_reads,
        warm_up=parsed.warm_up,
        users=parsed.users,
        exponent=parsed.exponent,
        readers=parsed.readers,
        writes_per_s=parsed.writes,
        latency_rate=parsed.latency_rate,
        latency_s=parsed.latency_s,
        propagation_s=parsed.propagation_s,
        seed=parsed.seed,
    )


if __name__ == "__main__":
    sys.exit(main())
