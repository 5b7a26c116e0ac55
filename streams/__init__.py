"""Kafka: the topic registry, the lane, the delivery step, the producer and the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.client import DarkroomClient as DarkroomClient


def __getattr__(name: str) -> Any:
    """`DarkroomClient`, which workers never need: its imports must not slow their start."""
    if name == "DarkroomClient":
        from streams.client import DarkroomClient

        return DarkroomClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
