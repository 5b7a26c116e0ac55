"""A prediction (or training) as kept in memory, and as the API shows it. Pure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devstack.emulator.faults import Fault, Mark
from devstack.emulator.lifecycle import RunPlan, Status

WEBHOOK_EVENTS = ("start", "output", "logs", "completed")


@dataclass(slots=True, eq=False)
class Prediction:
    """One run. `kind` is `predictions` or `trainings`; moments are seconds since the epoch."""

    id: str
    kind: str
    model: str
    version: str
    input: dict[str, Any]
    base_url: str
    created_at: float
    plan: RunPlan
    identity: str
    marks: tuple[Mark, ...]
    faults: frozenset[Fault]
    size_px: tuple[int, int]
    sequence: int = 0
    video: bool = False
    destination: str = ""
    webhook: str = ""
    webhook_events: tuple[str, ...] = WEBHOOK_EVENTS
    status: Status = Status.STARTING
    outputs: int = 0
    error: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    data_removed: bool = False
    timer: asyncio.TimerHandle | None = None
    done: asyncio.Event | None = None
    webhooks_sent: int = 0
    held_back: list[tuple[str, bytes]] = field(default_factory=list)
    last_attempted: asyncio.Future[None] | None = None

    def is_past(self, expiry_s: float, now: float) -> bool:
        """Whether its outputs are gone."""
        return self.completed_at is not None and now >= self.completed_at + expiry_s


def body_of(prediction: Prediction) -> dict[str, Any]:
    """What the API answers and webhooks carry; no webhook URL in it, as at the real provider."""
    url = f"{prediction.base_url}/v1/{prediction.kind}/{prediction.id}"
    body: dict[str, Any] = {
        "id": prediction.id,
        "model": prediction.model,
        "version": prediction.version,
        "input": {} if prediction.data_removed else prediction.input,
        "logs": "" if prediction.data_removed else logs_of(prediction),
        "output": None if prediction.data_removed else output_of(prediction),
        "data_removed": prediction.data_removed,
        "error": prediction.error,
        "source": "api",
        "status": prediction.status.value,
        "created_at": timestamp(prediction.created_at),
        "started_at": timestamp(prediction.started_at),
        "completed_at": timestamp(prediction.completed_at),
        "urls": {"get": url, "cancel": f"{url}/cancel"},
        "metrics": {},
    }
    if prediction.completed_at is not None:
        started = prediction.started_at or prediction.completed_at
        body["metrics"] = {
            "predict_time": round(prediction.completed_at - started, 6),
            "total_time": round(prediction.completed_at - prediction.created_at, 6),
        }
    if prediction.destination:
        body["destination"] = prediction.destination
    return body


def output_of(prediction: Prediction) -> Any:
    """URLs of pictures as a list, of a video as one string, of a training its new version."""
    if prediction.kind == "trainings":
        if prediction.status is not Status.SUCCEEDED:
            return None
        return {"version": f"{prediction.destination}:{version_trained_by(prediction)}", "weights": None}
    files = f"{prediction.base_url}/files/{prediction.id}"
    if prediction.video:
        return f"{files}/output.webm" if prediction.outputs else None
    if prediction.outputs or prediction.status is Status.SUCCEEDED:
        return [f"{files}/out-{index}.jpg" for index in range(prediction.outputs)]
    return None


def version_trained_by(training: Prediction) -> str:
    """64 hexadecimal digits, as version ids are."""
    return training.id.encode().hex()[:64].ljust(64, "0")


def logs_of(prediction: Prediction) -> str:
    """A few lines as models print them; the last one is progress that the client can parse."""
    if prediction.started_at is None:
        return ""
    steps = 28 if prediction.status is Status.SUCCEEDED else 14
    percent = 100 * steps // 28
    return f"Using seed: {prediction.input.get('seed', 0)}\n{percent}%|{'█' * (steps // 3)}| {steps}/28 [00:01<00:00]\n"


def timestamp(moment: float | None) -> str | None:
    """RFC 3339, UTC, microseconds."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
