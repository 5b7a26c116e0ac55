"""Watches while it happens: nothing may be announced that is not committed at that moment."""

from __future__ import annotations

import json
from typing import Any

from models.topics import ADMITTED, COMPLETED, CREDITS, FAILED
from simulation.fakes.kafka import Broker, Kept
from simulation.fakes.tables import Store

ENDED = ("completed", "failed", "cancelled")


class Monitor:
    """Looks at each event when it is appended."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self.problems: list[str] = []
        self._store = store
        broker.on_append = self._look

    def _look(self, record: Kept) -> None:
        if record.topic not in (ADMITTED, COMPLETED, FAILED, CREDITS):
            return
        body: dict[str, Any] = json.loads(record.value or b"{}")
        tables = self._store.tables
        if record.topic == CREDITS:
            account = tables["accounts"].get((body["user_id"],))
            if account is None or account["version"] < body["version"]:
                self._tell(record, "a balance is announced before it is committed")
            return
        row = tables["generations"].get((body["user_id"], body["request_id"]))
        if row is None:
            self._tell(record, "a request is announced before it is committed")
        elif record.topic != ADMITTED and row["state"] not in ENDED:
            self._tell(record, "an end is announced before it is committed")

    def _tell(self, record: Kept, problem: str) -> None:
        self.problems.append(f"{record.topic}/{record.partition}@{record.offset}: {problem}")
