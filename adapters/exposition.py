"""What each process shows at /metrics: one registry for all code, and of it what the process measures.

A worker imports the code of every role. A gauge that another role sets would stand there as 0 and look like an
answer, so each process shows only what is measured in it.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

WORKERS = ("admission", "fulfilment", "projections")
GATEWAY, EMULATOR = "gateway", "emulator"
PROCESSES = (*WORKERS, GATEWAY, EMULATOR)

_where: dict[str, set[str]] = {}


def measured_in(processes: Iterable[str], *metrics: Collector) -> None:
    """Say which processes measure these; what nobody says anything about is shown by all."""
    for metric in metrics:
        for family in metric.describe():  # type: ignore[attr-defined]
            _where.setdefault(family.name, set()).update(processes)


def where_of(family: str) -> tuple[str, ...]:
    """The processes that show a family, in their usual order."""
    found = _where.get(family)
    return PROCESSES if found is None else tuple(process for process in PROCESSES if process in found)


class _Part(Collector):
    def __init__(self, process: str) -> None:
        self._process = process

    def collect(self) -> Iterator[Metric]:
        return (family for family in REGISTRY.collect() if self._process in where_of(family.name))


def exposition(process: str) -> bytes:
    """The process's metrics in Prometheus's text format."""
    return generate_latest(_Part(process))


class WeightedHistogram(Collector):
    """A histogram that takes many equal observations as one: what a batch's records share is measured once.

    For one thread or event loop. No labels.
    """

    _labelnames: tuple[str, ...] = ()

    def __init__(
        self, name: str, documentation: str, *, buckets: Sequence[float], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._name, self._documentation = name, documentation
        self.bounds = (*buckets, float("inf"))
        self._counts = [0] * len(self.bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float, times: int = 1) -> None:
        """Count the value so many times."""
        for index, bound in enumerate(self.bounds):
            if value <= bound:
                self._counts[index] += times
                break
        self._sum += value * times

    def observe_each(self, values: Tally[float]) -> None:
        """Count each value as often as it says."""
        for value, times in values.items():
            self.observe(value, times)

    def describe(self) -> Iterable[Metric]:
        """The family without samples."""
        return [HistogramMetricFamily(self._name, self._documentation)]

    def collect(self) -> Iterator[Metric]:
        """The family as it stands."""
        bounds = [f"{bound:g}" if bound != float("inf") else "+Inf" for bound in self.bounds]
        sums = accumulate(self._counts)
        yield HistogramMetricFamily(
            self._name, self._documentation, buckets=list(zip(bounds, sums, strict=True)), sum_value=self._sum
        )
