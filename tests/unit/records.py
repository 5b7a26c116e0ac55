"""Records made by hand for tests of pure code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


@dataclass
class FakeRecord:
    """What a step sees of a consumed record."""

    value: bytes | None
    key: bytes | None = b"u1"
    offset: int = 0
    timestamp: int = 1_000_000
    partition: int = 0
    topic: str = "generations.requested.v1"
    headers: Sequence[tuple[str, bytes]] = ()


def request_value(request_id: str = "r1", user_id: str = "u1", **fields: object) -> bytes:
    """A request's JSON."""
    body = {"request_id": request_id, "user_id": user_id, "operation": "maya.image", "prompt": "a quiet harbour"}
    return msgspec.json.encode(body | fields)
