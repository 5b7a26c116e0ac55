"""How requests ended, held against what the provider really did and what users asked for."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from typing import Any

from models.operations import OPERATIONS
from simulation.fakes.kafka import Broker
from simulation.fakes.provider import ProviderState, Run
from simulation.fakes.tables import Store
from simulation.oracle.admission import Admissions, Identity
from simulation.oracle.events import Announced, Event
from simulation.oracle.money import Money

COMPLETED = "generations.completed.v1"
FAILED = "generations.failed.v1"
CANCELS = "generations.cancel_requested.v1"
SLACK_S = 60.0


class Endings:
    """Every admitted request has exactly one end, for a reason that is true, with the right money back."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        provider: ProviderState,
        objects: set[str],
        announced: Announced,
        money: Money,
        admissions: Admissions,
        deadline_s: float,
    ) -> None:
        self.problems: list[str] = []
        self._provider = provider
        self._objects = objects
        self._deadline_s = deadline_s
        self._refunds = Counter[str]()
        self._pictures: set[str] = set()
        self._cancelled = {_identity(json.loads(record.value or b"{}")) for record in broker.topic(CANCELS)}
        for identity, admitted in admissions.admitted.items():
            self._check(identity, admitted, announced)
        self._check_money(money)
        self._check_rows(store)
        self._check_letters(broker, announced, admissions)

    def _check(self, identity: Identity, admitted: Event, announced: Announced) -> None:
        name = "/".join(identity)
        completed = announced.of(COMPLETED).get(f"{name}/completed")
        failed = announced.of(FAILED).get(f"{name}/failed")
        if (completed is None) == (failed is None):
            self._tell(name, "has no end" if completed is None else "has two ends")
            return
        end = completed or failed
        assert end is not None
        if end.first.at_s > admitted.first.at_s + self._deadline_s + SLACK_S:
            self._tell(name, f"ended {end.first.at_s - admitted.first.at_s:.0f} s after its admission")
        if completed is not None:
            self._completion(identity, admitted.body["cost"], completed.body)
        else:
            self._failure(identity, admitted, end)

    def _completion(self, identity: Identity, cost: int, body: dict[str, Any]) -> None:
        name, operation = "/".join(identity), OPERATIONS[body["operation"]]
        run = self._provider.runs.get(body["prediction_id"])
        if run is None or run.identity != identity or run.status != "succeeded":
            self._tell(name, f"completed by a run that is not its own or has not succeeded: {run}")
            return
        if operation.name == "training.model":
            if body["model"]["version"] != run.output["version"]:
                self._tell(name, f"completed with another model than {run.output}")
            return
        lost = {index for index, url in enumerate(run.output) if url.endswith("/lost")}
        made = {sha256(url.encode()).hexdigest() for url in run.output}
        if any(image["sha256"] not in made for image in body["images"]):
            self._tell(name, "completed with pictures of another run")
        kept = [f"{run.run_id}-{index}" for index in range(len(run.output)) if index not in lost]
        if sorted(image["image_id"] for image in body["images"]) != sorted(kept):
            self._tell(name, f"completed with {body['images']} of {run.output}")
        self._pictures.update(kept)
        per_output = operation.cost // operation.outputs
        if body["refunded"] != per_output * len(lost):
            self._tell(name, f"gave back {body['refunded']} of {cost} for {len(lost)} missing")
        for index in lost:
            self._refunds[f"{name}/{index}"] += per_output

    def _failure(self, identity: Identity, admitted: Event, end: Event) -> None:
        name, body, cost = "/".join(identity), end.body, admitted.body["cost"]
        if body["refunded"] != cost:
            self._tell(name, f"failed and gave back {body['refunded']} of {cost}")
        self._refunds[name] += cost
        runs = [run for run in self._provider.runs.values() if run.identity == identity]
        if not self._is_true(identity, body["reason"], runs, end.first.at_s - admitted.first.at_s):
            self._tell(name, f"failed with {body['reason']}, which is not so: {runs}")

    def _is_true(self, identity: Identity, reason: str, runs: list[Run], age_s: float) -> bool:
        match reason:
            case "provider_failed":
                return any(run.status == "failed" or (run.status == "succeeded" and not run.output) for run in runs)
            case "provider_rejected":
                return identity in self._provider.refused
            case "outputs_lost":
                return any(_lost_all(run) for run in runs)
            case "cancelled":
                return identity in self._cancelled
            case "expired":
                return age_s >= self._deadline_s - SLACK_S / 4
        return False

    def _check_money(self, money: Money) -> None:
        booked = Counter[str]()
        for causes in money.causes.values():
            for cause in causes:
                if cause["kind"] == "refund":
                    booked[cause["reference_id"]] += cause["amount"]
        if booked != self._refunds:
            self.problems.append(f"refunds: booked {booked}, due {self._refunds}")

    def _check_rows(self, store: Store) -> None:
        rows = {row["image_id"]: row for row in store.rows("ai_images")}
        rows |= {row["video_id"]: row for row in store.rows("videos")}
        if rows.keys() != self._pictures:
            self.problems.append(f"gallery rows {sorted(rows)} are not {sorted(self._pictures)}")
        for image_id, row in rows.items():
            if row["key"] not in self._objects:
                self.problems.append(f"{image_id}: a row without its object")

    def _check_letters(self, broker: Broker, announced: Announced, admissions: Admissions) -> None:
        for record in broker.topic(CANCELS):
            place = f"{CANCELS}/{record.partition}/{record.offset}"
            identity = _identity(json.loads(record.value or b"{}"))
            if identity not in admissions.admitted and place not in announced.letters:
                self.problems.append(f"{place}: nobody to cancel, and no letter")
        about = ("generations.admitted.v1", "predictions.updated.v1", "images.stored.v1")
        self.problems += [f"{place}: one of ours is a letter" for place in announced.letters if place.startswith(about)]

    def _tell(self, name: str, problem: str) -> None:
        self.problems.append(f"{name} {problem}")


def _identity(body: dict[str, Any]) -> Identity:
    return body["user_id"], body["request_id"]


def _lost_all(run: Run) -> bool:
    urls = run.output if isinstance(run.output, list) else []
    return run.status == "succeeded" and bool(urls) and all(url.endswith("/lost") for url in urls)
