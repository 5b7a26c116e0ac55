"""What a run has announced, read from the topics as a dashboard would read them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

from simulation.fakes.kafka import Broker, Kept

OUTPUT_TOPICS = (
    *("generations.admitted.v1", "generations.rejected.v1", "generations.completed.v1", "generations.failed.v1"),
    "credits.changed.v1",
)
LETTERS = "dead-letters.v1"


class Event(NamedTuple):
    """One fact: its first copy, its body, and how many copies there are."""

    first: Kept
    body: dict[str, Any]
    copies: int


class Announced:
    """Facts by topic and event id; letters by the coordinates of what they are about."""

    def __init__(self, broker: Broker) -> None:
        self.problems: list[str] = []
        self.by_topic: dict[str, dict[str, Event]] = {topic: {} for topic in OUTPUT_TOPICS}
        self.letters: dict[str, str] = {}
        for topic in OUTPUT_TOPICS:
            self._read(topic, broker)
        for record in broker.topic(LETTERS):
            headers = dict(record.headers)
            self.letters[headers["dl_id"].decode()] = headers["dl_reason"].decode()

    def _read(self, topic: str, broker: Broker) -> None:
        first: dict[str, Kept] = {}
        copies: Counter[str] = Counter()
        for record in sorted(broker.topic(topic), key=lambda record: record.at_s):
            event_id = dict(record.headers)["ce_id"].decode()
            copies[event_id] += 1
            if first.setdefault(event_id, record).value != record.value:
                self.problems.append(f"{topic}: two facts have the id {event_id}")
        for event_id, record in first.items():
            body = json.loads(record.value or b"{}")
            self.by_topic[topic][event_id] = Event(record, body, copies[event_id])
            if record.partition != broker.home_of(body["user_id"]):
                self.problems.append(f"{topic}: {event_id} is in another partition than its user")

    def of(self, topic: str) -> dict[str, Event]:
        """The facts of one topic by id."""
        return self.by_topic[topic]
