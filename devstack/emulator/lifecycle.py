"""How a prediction moves: the rules as a table, and the plan of one run. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from devstack.emulator.faults import Fault, share_of

STARTING_SHARE = 0.25  # of the latency is spent before the model starts


class Status(StrEnum):
    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"


class Happening(StrEnum):
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"


# A pair that is missing here does not move the prediction: it is over, or not there yet.
MOVES: dict[tuple[Status, Happening], Status] = {
    (Status.STARTING, Happening.STARTED): Status.PROCESSING,
    (Status.STARTING, Happening.CANCELED): Status.CANCELED,
    (Status.STARTING, Happening.ABORTED): Status.ABORTED,
    (Status.PROCESSING, Happening.SUCCEEDED): Status.SUCCEEDED,
    (Status.PROCESSING, Happening.FAILED): Status.FAILED,
    (Status.PROCESSING, Happening.CANCELED): Status.CANCELED,
    (Status.PROCESSING, Happening.ABORTED): Status.ABORTED,
}
TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.ABORTED})


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run before it starts; `ending` None means that it never starts by itself. Times in seconds."""

    starting_s: float
    processing_s: float
    ending: Happening | None
    outputs: int
    error: str | None


def plan_run(outputs: int, latency_s: float, faults: frozenset[Fault]) -> RunPlan:
    """What this run will do, given its faults."""
    ending: Happening | None = Happening.SUCCEEDED
    error = None
    if Fault.STUCK in faults:
        ending = None
    elif Fault.FAILED in faults:
        ending, error = Happening.FAILED, "The model crashed: out of memory on the accelerator."
    elif Fault.ABORTED in faults:
        ending, error = Happening.ABORTED, "The run was stopped before it began."
    made = outputs // 2 if Fault.HALF_SET in faults else outputs
    return RunPlan(
        starting_s=latency_s * STARTING_SHARE,
        processing_s=latency_s * (1 - STARTING_SHARE),
        ending=ending,
        outputs=made if ending is Happening.SUCCEEDED else 0,
        error=error,
    )


def latency_of(seed: int, identity: str, attempt: int, low_s: float, high_s: float) -> float:
    """Seconds in low..high, always the same for the same request and attempt."""
    return low_s + (high_s - low_s) * share_of(seed, "latency", identity, attempt)
