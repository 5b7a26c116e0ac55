"""The operations catalogue and its limits: every cost, limit and name that users know, as data.

Source: the product's price list. A policy belongs to one operation family; families never share a window.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """At most `limit` units of admitted work per user within any `window_s` seconds; a request weighs `weight`."""

    name: str
    limit: int
    window_s: int
    weight: int = 1

    @property
    def window_ms(self) -> int:
        """The window in milliseconds, the unit of broker time."""
        return self.window_s * 1000


@dataclass(frozen=True)
class Operation:
    """What one kind of request costs, yields and is called.

    `outputs` is how many pictures it makes; `source` is the gallery's name for where a picture came from;
    `prompt_template` has `{trigger}` and `{prompt}`.
    """

    name: str
    cost: int
    policy: Policy
    outputs: int
    aspect_ratio: str
    source: str
    label: str
    prompt_template: str = "{prompt}"

    @property
    def cost_per_output(self) -> int:
        """What one missing picture of a set gives back."""
        return self.cost // self.outputs


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation(
            name="maya.image",
            cost=1,
            policy=Policy("maya.image", limit=30, window_s=60),
            outputs=1,
            aspect_ratio="4:5",
            source="maya_chat",
            label="image generation",
        ),
        Operation(
            name="studio.images",
            cost=4,
            policy=Policy("studio.images", limit=30, window_s=60),
            outputs=4,
            aspect_ratio="1:1",
            source="studio",
            label="studio",
            prompt_template="{trigger} {prompt}",
        ),
        Operation(
            name="feed.post",
            cost=1,
            policy=Policy("feed.post", limit=50, window_s=3600),
            outputs=1,
            aspect_ratio="4:5",
            source="feed_designer",
            label="feed post",
        ),
    )
}

LONGEST_WINDOW_MS = max(operation.policy.window_ms for operation in OPERATIONS.values())
