"""The money of a run: every balance from the first credit on, as events tell it, against what was sent and the rows."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from simulation.fakes.kafka import Broker, Kept
from simulation.fakes.tables import Store
from simulation.oracle.events import Announced

CHANGED = "credits.changed.v1"
GRANTED = "credits.granted.v1"
GRANT_KINDS = ("purchase", "subscription_grant", "bonus")


class Money:
    """By user the balances of all versions, from 0 on, and what caused each."""

    def __init__(self, broker: Broker, store: Store, announced: Announced) -> None:
        self.problems: list[str] = []
        self.balances: dict[str, list[int]] = {}
        self.causes: dict[str, list[dict[str, Any]]] = {}
        self._read(announced)
        self._check_rows(store)
        self._check_grants(broker, announced)

    def balance_at(self, user_id: str, version: int) -> int | None:
        """The balance at a version; None when there is none."""
        balances = self.balances.get(user_id, [0])
        return balances[version] if 0 <= version < len(balances) else None

    def caused(self, kind: str) -> Counter[str]:
        """How often each reference has caused an entry of this kind."""
        return Counter(
            cause["reference_id"] for causes in self.causes.values() for cause in causes if cause["kind"] == kind
        )

    def _read(self, announced: Announced) -> None:
        by_user: dict[str, list[dict[str, Any]]] = {}
        for event in announced.of(CHANGED).values():
            by_user.setdefault(event.body["user_id"], []).append(event.body)
        for user_id, changes in by_user.items():
            changes.sort(key=lambda change: change["version"])
            if [change["version"] for change in changes] != list(range(1, len(changes) + 1)):
                self.problems.append(f"{user_id}: versions {[change['version'] for change in changes]} have gaps")
            balances = [0]
            for change in changes:
                balances.append(balances[-1] + change["cause"]["amount"])
                if change["balance"] != balances[-1]:
                    self.problems.append(f"{user_id}: balance {change['balance']} instead of {balances[-1]}")
                if balances[-1] < 0:
                    self.problems.append(f"{user_id}: a balance below zero")
            self.balances[user_id] = balances
            self.causes[user_id] = [change["cause"] for change in changes]
        for kind in ("charge", "refund", *GRANT_KINDS):
            self.problems += [f"{ref}: {n} times a {kind}" for ref, n in self.caused(kind).items() if n > 1]

    def _check_rows(self, store: Store) -> None:
        for row in store.rows("accounts"):
            said = self.balances.get(row["user_id"], [0])
            if (row["version"], row["balance"]) != (len(said) - 1, said[-1]):
                self.problems.append(f"{row['user_id']}: the account is not what was announced last")
        rows = Counter(
            (row["user_id"], row["kind"], row["reference_id"], row["amount"]) for row in store.rows("ledger")
        )
        told = Counter(
            (user_id, cause["kind"], cause["reference_id"], cause["amount"])
            for user_id, causes in self.causes.items()
            for cause in causes
        )
        if rows != told:
            self.problems.append(f"ledger and events differ: {(rows - told) | (told - rows)}")

    def _check_grants(self, broker: Broker, announced: Announced) -> None:
        sent: dict[str, list[tuple[Kept, tuple[str, int, str]]]] = {}
        for record in broker.topic(GRANTED):
            grant = _grant_of(record.value)
            place = f"{GRANTED}/{record.partition}/{record.offset}"
            if grant is None:
                if place not in announced.letters:
                    self.problems.append(f"{place}: an unreadable grant has no letter")
                continue
            sent.setdefault(grant["grant_id"], []).append((record, (grant["user_id"], grant["amount"], grant["kind"])))
        booked = {
            cause["reference_id"]: (user_id, cause["amount"], cause["kind"])
            for user_id, causes in self.causes.items()
            for cause in causes
            if cause["kind"] in GRANT_KINDS
        }
        if booked.keys() != sent.keys():
            self.problems.append(f"grants: sent {sorted(sent)}, booked {sorted(booked)}")
        for grant_id, records in sent.items():
            # The first of its partition holds; between two partitions either may be first.
            firsts = {record.partition: content for record, content in reversed(records)}
            if booked.get(grant_id) not in firsts.values():
                self.problems.append(f"grant {grant_id}: booked {booked.get(grant_id)}, sent first {firsts}")
            for record, content in records:
                place = f"{GRANTED}/{record.partition}/{record.offset}"
                if (place in announced.letters) != (content != booked.get(grant_id)):
                    self.problems.append(f"{place}: a letter where there should be none, or none where one is due")


def _grant_of(value: bytes | None) -> dict[str, Any] | None:
    try:
        grant = json.loads(value or b"")
    except ValueError:
        return None
    known = isinstance(grant, dict) and {"grant_id", "user_id", "amount", "kind"} <= grant.keys()
    return grant if known and grant["amount"] > 0 else None
