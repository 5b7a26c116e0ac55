"""The answers to requests, predicted from the log alone: order and broker time in, one meaning for each record out."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from models.operations import OPERATIONS
from simulation.fakes.kafka import Broker, Kept
from simulation.fakes.tables import Store
from simulation.oracle.events import Announced, Event
from simulation.oracle.limits import Limit, LimitHistory
from simulation.oracle.money import Money

REQUESTED = "generations.requested.v1"
ADMITTED = "generations.admitted.v1"
REJECTED = "generations.rejected.v1"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")

Identity = tuple[str, str]


class Admissions:
    """Walks each partition's requests in order and holds every answer against what it must be."""

    def __init__(self, broker: Broker, store: Store, announced: Announced, money: Money, limits: LimitHistory) -> None:
        self.problems: list[str] = []
        self.admitted: dict[Identity, Event] = {}
        self._broker = broker
        self._announced = announced
        self._money = money
        self._limits = limits
        self._content: dict[Identity, Any] = {}
        self._answered: Counter[str] = Counter()
        self._times: dict[tuple[str, str], list[int]] = {}
        self._charged_at: dict[str, int] = {}
        self._refused: set[str] = set()
        for partition in range(broker.partitions):
            clock_ms = 0
            for record in broker.log(REQUESTED, partition):
                clock_ms = max(clock_ms, record.timestamp)
                self._walk(record, clock_ms)
        self._check_the_rest(store)

    def _walk(self, record: Kept, clock_ms: int) -> None:
        place = f"{REQUESTED}/{record.partition}/{record.offset}"
        request = _object_of(record.value)
        if request is None:
            if place not in self._announced.letters:
                self._tell(record, "nobody can be answered, and there is no letter")
            return
        home = self._broker.home_of(request["user_id"])
        if home != record.partition:
            later = [one for one in self._broker.log(REQUESTED, home) if one.at_s >= record.at_s]
            if not any(one.value == record.value for one in later):
                self._tell(record, "was not sent on to its user's partition")
            return
        self._answer(record, request, clock_ms)

    def _answer(self, record: Kept, request: dict[str, Any], clock_ms: int) -> None:
        identity = (request["user_id"], request["request_id"])
        rejected_id = f"{identity[0]}/{identity[1]}/rejected/{record.partition}-{record.offset}"
        rejection = self._announced.of(REJECTED).get(rejected_id)
        if rejection is not None:
            self._refused.add(rejected_id)
        said = rejection.body["reason"] if rejection is not None else "admitted"
        if _is_invalid(request):
            self._expect(record, said, "invalid")
        elif identity in self._content:
            same = self._content[identity] == _content(request)
            self._expect(record, said, "admitted" if same else "conflict")
            self._answered["/".join(identity)] += same
        elif rejection is not None:
            self._refusal(record, request, rejection, clock_ms)
        else:
            self._admission(record, request, clock_ms)

    def _refusal(self, record: Kept, request: dict[str, Any], rejection: Event, clock_ms: int) -> None:
        user_id, cost = request["user_id"], _cost(request)
        body = {name: rejection.body.get(name) for name in ("reason", "policy", "limit", "window_s", "remaining")}
        expected: list[dict[str, Any]] = []
        for limit in self._possible(request, record, rejection):
            inside = self._inside(user_id, limit, clock_ms)
            if limit.is_enforced and len(inside) >= limit.limit:
                free_ms = sorted(inside)[len(inside) - limit.limit] if limit.limit else clock_ms
                retry_s = (free_ms + limit.window_s * 1000 - record.timestamp) / 1000
                due = {"reason": "rate_limited", "policy": limit.policy, "limit": limit.limit}
                due |= {"window_s": limit.window_s, "remaining": 0}
                expected.append(due | {"retry_after_s": retry_s})
            elif self._may_lack(user_id, cost, rejection.body):
                expected.append({"reason": "insufficient_credits"})
        body["retry_after_s"] = rejection.body.get("retry_after_s")
        if {name: value for name, value in body.items() if value is not None} not in expected:
            self._tell(record, f"was refused with {rejection.body}; due: {expected or 'admission'}")

    def _may_lack(self, user_id: str, cost: int, body: dict[str, Any]) -> bool:
        """Whether the balance that the refusal names is one between this user's last charge here and the next."""
        if body["reason"] != "insufficient_credits" or body["required"] != cost or body["current"] >= cost:
            return body["reason"] != "insufficient_credits" and self._ever_below(user_id, cost)
        return body["current"] in self._balances_since_charge(user_id)

    def _ever_below(self, user_id: str, cost: int) -> bool:
        return any(balance < cost for balance in self._balances_since_charge(user_id))

    def _balances_since_charge(self, user_id: str) -> list[int]:
        since = self._charged_at.get(user_id, 0)
        causes = self._money.causes.get(user_id, [])
        until = next((n + 1 for n, one in enumerate(causes) if one["kind"] == "charge" and n + 1 > since), None)
        return self._money.balances.get(user_id, [0])[since:until]

    def _admission(self, record: Kept, request: dict[str, Any], clock_ms: int) -> None:
        user_id, request_id = request["user_id"], request["request_id"]
        event = self._announced.of(ADMITTED).get(f"{user_id}/{request_id}/admitted")
        if event is None:
            self._tell(record, "was never answered")
            return
        possible = self._possible(request, record, event)
        free = [one for one in possible if len(self._inside(user_id, one, clock_ms)) < one.limit or not one.is_enforced]
        if not free:
            self._tell(record, f"was admitted over the limit {possible[-1]}")
        cost, body = _cost(request), event.body
        due = {
            "operation": request["operation"],
            "prompt": request["prompt"],
            "cost": cost,
            "admitted_at": _at(clock_ms),
        }
        if {name: body[name] for name in due} != due:
            self._tell(record, f"was answered with {body}, due: {due}")
        if body["options"] != request.get("options", {}):
            self._tell(record, "was admitted with other options")
        version = body["version"]
        if version <= self._charged_at.get(user_id, 0) or self._money.balance_at(user_id, version) != body["balance"]:
            self._tell(record, f"was admitted at version {version} with a balance that was not the user's then")
        else:
            cause = self._money.causes[user_id][version - 1]
            if cause != {"kind": "charge", "reference_id": f"{user_id}/{request_id}", "amount": -cost}:
                self._tell(record, f"was admitted at version {version}, which is {cause}")
        self._charged_at[user_id] = version
        self._content[user_id, request_id] = _content(request)
        self._answered[f"{user_id}/{request_id}"] += 1
        self.admitted[user_id, request_id] = event
        self._times.setdefault((user_id, request["operation"]), []).append(clock_ms)

    def _possible(self, request: dict[str, Any], record: Kept, answer: Event) -> list[Limit]:
        policy = OPERATIONS[request["operation"]].policy.name
        return self._limits.possible(policy, record.at_s, answer.first.at_s)

    def _inside(self, user_id: str, limit: Limit, clock_ms: int) -> list[int]:
        times = self._times.get((user_id, limit.policy), [])
        return [at_ms for at_ms in times if clock_ms - limit.window_s * 1000 < at_ms <= clock_ms]

    def _check_the_rest(self, store: Store) -> None:
        rejected = self._announced.of(REJECTED)
        self.problems += [f"{event_id} answers nothing" for event_id in rejected.keys() - self._refused]
        for event_id, event in self._announced.of(ADMITTED).items():
            answered = self._answered.get(event_id.removesuffix("/admitted"), 0)
            if not answered:
                self.problems.append(f"{event_id} was announced and is none")
            elif event.copies < answered:
                self.problems.append(f"{event_id}: {answered} requests, only {event.copies} answers")
        charges = self._money.caused("charge")
        if charges.keys() != {"/".join(identity) for identity in self.admitted}:
            self.problems.append(f"charges {sorted(charges)} are not those of {sorted(self.admitted)}")
        rows = {(row["user_id"], row["request_id"]) for row in store.rows("generations")}
        if rows != self.admitted.keys():
            self.problems.append(f"rows {sorted(rows)} are not those of {sorted(self.admitted)}")

    def _expect(self, record: Kept, said: str, due: str) -> None:
        if said != due:
            self._tell(record, f"was answered {said}, due: {due}")

    def _tell(self, record: Kept, problem: str) -> None:
        self.problems.append(f"{REQUESTED}/{record.partition}@{record.offset} {(record.value or b'')!r} {problem}")


def _object_of(value: bytes | None) -> dict[str, Any] | None:
    try:
        body = json.loads(value or b"")
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    ids = (body.get("request_id"), body.get("user_id"))
    return body if all(isinstance(one, str) and _ID.match(one) for one in ids) else None


def _is_invalid(request: dict[str, Any]) -> bool:
    operation = OPERATIONS.get(request.get("operation", ""))
    if operation is None:
        return True
    wanted = request.get("options", {}).get("num_outputs")
    wrong = wanted is not None and not 1 <= wanted <= max(1, operation.outputs)
    lacks_image = operation.name == "video.animation" and "image_url" not in request.get("options", {})
    lacks_images = operation.name == "training.model" and len(request.get("options", {}).get("images", ())) < 5
    return wrong or lacks_image or lacks_images


def _content(request: dict[str, Any]) -> Any:
    return {name: request.get(name) for name in ("operation", "prompt", "options", "context")}


def _cost(request: dict[str, Any]) -> int:
    operation = OPERATIONS[request["operation"]]
    wanted = request.get("options", {}).get("num_outputs")
    return operation.cost if wanted is None or not operation.outputs else operation.cost // operation.outputs * wanted


def _at(at_ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03}Z"
