"""Reading /metrics as Prometheus does."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """What one process showed."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """One sample; None when there is no such series."""
        return self.values.get((name, frozenset(labels.items())))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums of the samples that are not 0, by one label."""
        sums: dict[str, float] = {}
        for (found, labels), value in self.values.items():
            if found == name and value:
                key = dict(labels)[label]
                sums[key] = sums.get(key, 0.0) + value
        return sums

    def names(self) -> set[str]:
        """Every name that has a sample."""
        return {name for name, _ in self.values}


def parsed(text: str) -> Scrape:
    """The samples of a text in Prometheus's format."""
    families = text_string_to_metric_families(text)
    return Scrape(
        {(sample.name, frozenset(sample.labels.items())): sample.value for one in families for sample in one.samples}
    )


def scrape(address: str) -> Scrape:
    """Ask a process for its metrics."""
    with urlopen(f"{address}/metrics", timeout=10) as response:
        return parsed(response.read().decode())
