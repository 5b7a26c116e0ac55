"""What the rendered events have in common: one user, one place, one time, one trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.outputs import Header, Output

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED: list[Header] = [("traceparent", TRACE.encode())]
AT_MS = 1_769_847_330_123
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PICTURES = "https://pictures.example/v1/images/"
PLACE: dict[str, Any] = {"partition": 3, "offset": 1042, "timestamp": AT_MS}


@dataclass(frozen=True)
class Case:
    """One event. `means` says what every reader must find in it: dotted names and their values."""

    name: str
    output: Output
    means: dict[str, Any]

    @property
    def topic(self) -> str:
        return self.output[0]


class Kept:
    """In the publisher's place."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []

    async def send(self, topic: str, key: bytes | None, value: bytes, headers: Sequence[Header]) -> tuple[int, int]:
        self.outputs.append((topic, key, value, list(headers)))
        return 0, 0
