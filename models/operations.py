"""The operations catalogue and its limits: every cost, limit and name that users know, as data.

Source: the product's price list. A policy belongs to one operation family; families never share a window. Limits
may be changed while everything runs (models/limits.py); what stands here is what holds until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """Whether a policy refuses, or only counts what it would have refused."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


@dataclass(frozen=True)
class Policy:
    """At most `limit` units of admitted work per user within any `window_s` seconds; a request weighs `weight`.

    `max_in_flight` is how many unfinished requests a user may have at once; None for any number.
    """

    name: str
    limit: int
    window_s: int
    weight: int = 1
    mode: Mode = Mode.ENFORCE
    max_in_flight: int | None = None

    @property
    def window_ms(self) -> int:
        """The window in milliseconds, the unit of broker time."""
        return self.window_s * 1000


class Kind(StrEnum):
    """What the provider is asked for, and so what comes out of it."""

    IMAGES = "images"
    VIDEO = "video"
    TRAINING = "training"


@dataclass(frozen=True)
class Operation:
    """What one kind of request costs, yields and is called.

    `outputs` is how many files it makes; `source` is the gallery's name for where they came from;
    `prompt_template` has `{trigger}` and `{prompt}`; an unfinished request expires after `deadline_s`.
    """

    name: str
    cost: int
    policy: Policy
    label: str
    source: str
    kind: Kind = Kind.IMAGES
    outputs: int = 1
    aspect_ratio: str = ""
    prompt_template: str = "{prompt}"
    deadline_s: float = 35 * 60.0

    @property
    def cost_per_output(self) -> int:
        """What one missing output of a set gives back."""
        return self.cost // self.outputs if self.outputs else 0

    def cost_of(self, num_outputs: int | None) -> int:
        """What a request costs: the whole, or its part for fewer outputs than there could be."""
        return self.cost if num_outputs is None or not self.outputs else self.cost_per_output * num_outputs


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation(
            name="maya.image",
            cost=1,
            policy=Policy("maya.image", limit=30, window_s=60),
            label="image generation",
            source="maya_chat",
            aspect_ratio="4:5",
        ),
        Operation(
            name="studio.images",
            cost=4,
            policy=Policy("studio.images", limit=30, window_s=60),
            label="studio",
            source="studio",
            outputs=4,
            aspect_ratio="1:1",
            prompt_template="{trigger} {prompt}",
        ),
        Operation(
            name="feed.post",
            cost=1,
            policy=Policy("feed.post", limit=50, window_s=3600),
            label="feed post",
            source="feed_designer",
            aspect_ratio="4:5",
        ),
        Operation(
            name="video.animation",
            cost=3,
            policy=Policy("video.animation", limit=10, window_s=3600),
            label="video",
            source="video",
            kind=Kind.VIDEO,
        ),
        Operation(
            name="training.model",
            cost=25,
            policy=Policy("training.model", limit=5, window_s=3600),
            label="model training",
            source="training",
            kind=Kind.TRAINING,
            outputs=0,
            deadline_s=60 * 60.0,
        ),
    )
}

DEADLINES_S: dict[str, float] = {operation.name: operation.deadline_s for operation in OPERATIONS.values()}

POLICIES: dict[str, Policy] = {operation.policy.name: operation.policy for operation in OPERATIONS.values()}

LONGEST_DEADLINE_S = max(DEADLINES_S.values())


def kind_of(operation_name: str) -> Kind:
    """What an operation asks the provider for; pictures if it is unknown here."""
    operation = OPERATIONS.get(operation_name)
    return Kind.IMAGES if operation is None else operation.kind
