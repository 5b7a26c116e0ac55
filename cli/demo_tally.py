"""Counting what became of the demo's requests, from the events alone. Pure.

Events may come twice; a request is counted once in each stage. What is kept is bounded by what is in flight.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cli.demo_traffic import Wish
from models.topics import ADMITTED, COMPLETED, FAILED, PREDICTIONS, REJECTED, STORED

STAGES = ("requested", "admitted", "started", "stored", "completed", "rejected", "failed")
NEWEST_MAX = 24
LATENCIES_MAX = 100_000

_STAGE_OF_TOPIC = {
    ADMITTED: "admitted",
    REJECTED: "rejected",
    PREDICTIONS: "started",
    STORED: "stored",
    COMPLETED: "completed",
    FAILED: "failed",
}
_ENDS = {"rejected", "completed", "failed"}


@dataclass(frozen=True)
class Finished:
    """A completed request: whose, what, its images as the event has them, and how long it took in milliseconds."""

    request_id: str
    user_id: str
    operation: str
    prompt: str
    images: list[dict[str, Any]]
    took_ms: int


@dataclass
class Tally:
    """Counts per stage, times of the completed, the newest of them first, and why others were not."""

    counts: Counter[str] = field(default_factory=Counter)
    images: int = 0
    newest: deque[Finished] = field(default_factory=lambda: deque(maxlen=NEWEST_MAX))
    latencies_ms: deque[int] = field(default_factory=lambda: deque(maxlen=LATENCIES_MAX))
    problems: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    _open: dict[str, tuple[Wish, set[str]]] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        """How many have not ended."""
        return len(self._open)

    def ask(self, request_id: str, wish: Wish) -> None:
        """A request is about to be sent. Only requests that were asked here are counted."""
        self._open[request_id] = (wish, set())
        self.counts["requested"] += 1

    def see(self, topic: str, body: Mapping[str, Any], at_ms: int) -> Finished | None:
        """Count one event; returns the request if this completes it. `at_ms` is broker time."""
        request_id, stage = body.get("request_id", ""), _STAGE_OF_TOPIC.get(topic)
        if stage is None or request_id not in self._open:
            return None
        wish, seen = self._open[request_id]
        if stage not in seen:
            seen.add(stage)
            self.counts[stage] += 1
        if stage not in _ENDS:
            return None
        del self._open[request_id]
        if stage != "completed":
            self.problems.append(f"{request_id} {stage} ({body['reason']}): {body['message']}")
            return None
        took_ms = at_ms - round(datetime.fromisoformat(body["requested_at"]).timestamp() * 1000)
        self.images += len(body["images"])
        self.latencies_ms.append(took_ms)
        finished = Finished(request_id, wish.user_id, wish.operation, wish.prompt, list(body["images"]), took_ms)
        self.newest.appendleft(finished)
        return finished

    def unfinished(self) -> list[str]:
        """The ids of requests that have not ended."""
        return list(self._open)

    def summary(self, seconds: float, violations: int) -> dict[str, int | float]:
        """The demo's last line."""
        return {
            "requested": self.counts["requested"],
            "admitted": self.counts["admitted"],
            "rejected": self.counts["rejected"],
            "completed": self.counts["completed"],
            "failed": self.counts["failed"],
            "images": self.images,
            "seconds": round(seconds, 2),
            "p50_ms": percentile(self.latencies_ms, 50),
            "p99_ms": percentile(self.latencies_ms, 99),
            "violations": violations,
        }


def percentile(values: Iterable[int], percent: float) -> int:
    """By nearest rank; 0 when there are no values."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * percent) // 100) - 1)] if ordered else 0
