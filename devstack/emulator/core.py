"""Everything the emulator is made of, without HTTP: stores, runner, pictures, counts and the faults of the moment."""

from __future__ import annotations

import base64
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from devstack.emulator.counts import Counts, request_named_in
from devstack.emulator.creation import Creation
from devstack.emulator.faults import Fault, Mark, Stage, checked_rates, faults_for
from devstack.emulator.lifecycle import Status, latency_of, plan_run
from devstack.emulator.options import EmulatorOptions
from devstack.emulator.pictures import Pictures
from devstack.emulator.predictions import Prediction, version_trained_by
from devstack.emulator.runner import Runner
from devstack.emulator.store import PredictionStore
from devstack.emulator.throttle import Throttle
from devstack.emulator.webhook_sender import WebhookSender

_VERSIONS_MAX = 100_000


class Emulator:
    """One provider. Made and used inside one event loop; `stop` ends what it started."""

    def __init__(self, options: EmulatorOptions) -> None:
        self.options = options
        self.counts = Counts(options.predictions_max)
        self.rates: dict[Fault, float] = checked_rates(options.fault_rates)
        self.stores = {
            kind: PredictionStore(options.predictions_max, options.output_expiry_s)
            for kind in ("predictions", "trainings")
        }
        self.models: OrderedDict[str, float] = OrderedDict()
        self.pictures = Pictures(options, self.counts.totals)
        self.throttle = Throttle(options.per_minute, time.time())
        self.sender = WebhookSender(options, self.counts.totals)
        self.runner = Runner(options, self.sender, self.counts.totals)
        self._downloads: OrderedDict[str, int] = OrderedDict()
        self._reads = 0

    async def stop(self) -> None:
        await self.sender.stop()
        self.pictures.stop()

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """From now on. Raises WrongUse and leaves the old ones."""
        self.rates = checked_rates(rates)

    def strike(self, creation: Creation, header_marks: tuple[Mark, ...]) -> tuple[int, frozenset[Fault]]:
        """Counts this try; its number and what goes wrong before or while it is answered."""
        attempt = self.counts.attempt_of(creation.identity)
        marks = (*header_marks, *creation.marks)
        faults = faults_for(Stage.CREATE, marks, self.rates, self.options.seed, creation.identity, attempt)
        for fault in faults:
            self.counts.totals[f"fault_{fault}"] += 1
        return attempt, faults

    def create(self, creation: Creation, header_marks: tuple[Mark, ...], attempt: int, base_url: str) -> Prediction:
        """Starts a run that will be paid for, and counts it for its request."""
        options, kind = self.options, creation.kind
        marks = (*header_marks, *creation.marks)
        rolled = (marks, self.rates, options.seed, creation.identity, attempt)
        faults = faults_for(Stage.RUN, *rolled) | faults_for(Stage.WEBHOOK, *rolled)
        low, high = options.latency_min_s, options.latency_max_s
        if kind == "trainings":
            low, high = options.training_latency_min_s, options.training_latency_max_s
        latency_s = latency_of(options.seed, creation.identity, attempt, low, high)
        prediction = Prediction(
            id=base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower(),
            kind=kind,
            model=creation.model,
            version=creation.version,
            input=creation.input,
            base_url=options.public_url.rstrip("/") or base_url,
            created_at=round(time.time(), 6),  # as precise as it is shown, so that lists can be cut at it
            plan=plan_run(creation.outputs, latency_s, faults),
            identity=creation.identity,
            marks=marks,
            faults=faults,
            size_px=creation.size_px,
            video=creation.video,
            destination=creation.destination,
            webhook=creation.webhook,
            webhook_events=creation.webhook_events,
        )
        self.stores[kind].add(prediction)
        self.counts.totals[f"{kind}_created"] += 1
        for fault in faults:
            self.counts.totals[f"fault_{fault}"] += 1
        request = request_named_in(creation.webhook)
        if request is not None:
            self.counts.created(request, prediction.id)
        self.runner.begin(prediction)
        return prediction

    def file_faults(self, prediction: Prediction, output: int) -> frozenset[Fault]:
        """What spoils this download; counts it."""
        name = f"{prediction.id}/{output}"
        download = self._downloads.pop(name, 0) + 1
        self._downloads[name] = download
        if len(self._downloads) > self.options.predictions_max:
            self._downloads.popitem(last=False)
        # Rates are rolled per output and not per download: a bad file stays bad, as a stored object would.
        marked = faults_for(Stage.FILE, prediction.marks, {}, 0, "", download, output)
        rolled = faults_for(Stage.FILE, (), self.rates, self.options.seed, prediction.identity, output=output)
        for fault in marked | rolled:
            self.counts.totals[f"fault_{fault}"] += 1
        return marked | rolled

    def read_fails(self, header_marks: tuple[Mark, ...]) -> bool:
        """Whether this GET is answered 500."""
        self._reads += 1
        faults = faults_for(Stage.READ, header_marks, self.rates, self.options.seed, "read", self._reads)
        self.counts.totals["fault_read_error"] += len(faults)
        return bool(faults)

    def add_model(self, owner: str, name: str) -> None:
        self.models[f"{owner}/{name}"] = time.time()
        if len(self.models) > _VERSIONS_MAX:
            self.models.popitem(last=False)

    def statuses(self) -> dict[str, dict[str, int]]:
        """How many runs are in which status now, by kind."""
        answer: dict[str, dict[str, int]] = {}
        for kind, store in self.stores.items():
            counted = dict.fromkeys((status.value for status in Status), 0)
            for prediction in store:
                counted[prediction.status.value] += 1
            answer[kind] = counted
        return answer

    def versions_of(self, model: str) -> list[dict[str, Any]]:
        """Versions that trainings have given this model, newest last."""
        return [
            {"id": version_trained_by(training), "created_at": training.completed_at}
            for training in self.stores["trainings"]
            if training.destination == model and training.status is Status.SUCCEEDED
        ]
