"""From all runs to one line: medians, spreads and ratios."""

from __future__ import annotations

from statistics import median
from typing import Any


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """The last line. Every run counts its violations; one violation makes the result void."""
    pairs, runs = measured["throughput"], measured["latency"]
    result: dict[str, Any] = {"bench": "admission"}
    rates = {name: [pair[name]["per_s"] for pair in pairs] for name in ("ours", "handwritten")}
    result["ours_per_s"] = _median(rates["ours"])
    result["handwritten_per_s"] = _median(rates["handwritten"])
    ratios = [pair["ours"]["per_s"] / pair["handwritten"]["per_s"] for pair in pairs]
    result["ratio"] = _median(ratios, 3)
    result |= {f"{prefix}p99_ms": _latency(runs, name, "200", "p99_ms") for name, prefix in _PREFIXES.items()}
    result["violations"] = sum(pair[name]["violations"] for pair in pairs for name in pair) + sum(
        figures.get("violations", 0) + sum(figures[rate]["unanswered"] for rate in ("200", "1000"))
        for run in runs
        for figures in run.values()
    )
    result["duplicates"] = sum(pair[name]["duplicates"] for pair in pairs for name in pair)
    result["ratio_min_max"] = [round(ratio, 3) for ratio in (min(ratios), max(ratios))] if ratios else None
    for name, values in rates.items():
        result[f"{name}_per_s_min_max"] = [min(values), max(values)] if values else None
        result[f"{name}_cpu_ms_per_1000"] = _usage(pairs, name)
    result["cpu_ratio"] = _median(
        [_worker(pair["handwritten"]) / _worker(pair["ours"]) for pair in pairs if _worker(pair["ours"])], 3
    )
    for name, prefix in _PREFIXES.items():
        if name != "echo":
            result[f"{name}_cpu_ms_per_1000_at_1000"] = _latency(runs, name, "1000", "cpu_ms_per_1000")
        result[f"{prefix}p50_ms"] = _latency(runs, name, "200", "p50_ms")
        result[f"{prefix}p50_ms_at_1000"] = _latency(runs, name, "1000", "p50_ms")
        result[f"{prefix}p99_ms_at_1000"] = _latency(runs, name, "1000", "p99_ms")
    return result


_PREFIXES = {"ours": "", "handwritten": "handwritten_", "echo": "echo_"}


def _worker(run: dict[str, Any]) -> float:
    used: float = run["cpu_ms_per_1000"].get("worker", 0.0)
    return used


def _usage(pairs: list[dict[str, Any]], name: str) -> dict[str, float | None]:
    used = [pair[name]["cpu_ms_per_1000"] for pair in pairs]
    return {key: _median([run[key] for run in used], 2) for key in (used[0] if used else ())}


def _latency(runs: list[dict[str, Any]], name: str, rate: str, figure: str) -> float | None:
    return _median([run[name][rate][figure] for run in runs if run[name][rate][figure] is not None], 2)


def _median(values: list[float], digits: int = 0) -> float | None:
    return round(median(values), digits or None) if values else None
