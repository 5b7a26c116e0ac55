"""The topic registry: every topic's name, key, writers, readers and keeping. One place, checked against agents.

Names carry their major version. All topics of a request's path share the key (user id) and the partition
count, so a user lives in one partition from end to end.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400

REQUESTED = "generations.requested.v1"
ADMITTED = "generations.admitted.v1"
REJECTED = "generations.rejected.v1"
PREDICTIONS = "predictions.updated.v1"
STORED = "images.stored.v1"
COMPLETED = "generations.completed.v1"
FAILED = "generations.failed.v1"
CANCEL_REQUESTED = "generations.cancel_requested.v1"
GRANTED = "credits.granted.v1"
CREDITS = "credits.changed.v1"
LIMITS = "limits.changed.v1"
DEAD_LETTERS = "dead-letters.v1"


@dataclass(frozen=True)
class Topic:
    """One topic. `writers` and `readers` name agents, services or `producers`/`dashboards` outside of Darkroom."""

    name: str
    key: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    retention_s: int = 7 * DAY_S
    compacted: bool = False
    value_bytes_max: int | None = None

    def configuration(self) -> dict[str, str]:
        """Kafka's topic settings. The broker's append time is the only clock that limits trust."""
        settings = {"message.timestamp.type": "LogAppendTime"}
        if self.value_bytes_max is not None:
            settings["max.message.bytes"] = str(self.value_bytes_max)
        if self.compacted:
            return settings | {"cleanup.policy": "compact"}
        return settings | {"cleanup.policy": "delete", "retention.ms": str(self.retention_s * 1000)}


# What comes in from outside, and goes on to the partition of its key if it came to another.
INCOMING = (REQUESTED, GRANTED, CANCEL_REQUESTED)

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(REQUESTED, "user_id", ("producers", "admit"), ("admit",)),
        Topic(ADMITTED, "user_id", ("admit",), ("generate", "dashboards")),
        Topic(REJECTED, "user_id", ("admit",), ("dashboards",)),
        Topic(PREDICTIONS, "user_id", ("dispatcher", "reconciler", "gateway"), ("settle",)),
        Topic(STORED, "user_id", ("keeper",), ("gallery",)),
        Topic(COMPLETED, "user_id", ("gallery", "settle"), ("dashboards",), retention_s=30 * DAY_S),
        Topic(FAILED, "user_id", ("settle", "gallery", "cancel"), ("dashboards",), retention_s=30 * DAY_S),
        Topic(CANCEL_REQUESTED, "user_id", ("producers", "cancel"), ("cancel",)),
        Topic(GRANTED, "user_id", ("producers", "grants"), ("grants",), retention_s=30 * DAY_S),
        Topic(
            CREDITS,
            "user_id",
            ("admit", "grants", "settle", "gallery", "cancel"),
            ("cache", "dashboards"),
            compacted=True,
        ),
        Topic(LIMITS, "policy", ("operators",), ("admit",), compacted=True),
        Topic(
            DEAD_LETTERS,
            "original key",
            ("admit", "grants", "generate", "settle", "gallery", "cancel", "cache"),
            ("operators",),
            retention_s=90 * DAY_S,
            # Whatever fits a topic at the broker's default of 1 MiB must fit here with the headers that say why.
            value_bytes_max=4 << 20,
        ),
    )
}
