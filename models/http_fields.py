"""HTTP header fields that say what a decision said: read and written as their standards have it. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

WAIT_DEFAULT_S = 2.0
WAIT_MAX_S = 30.0
_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,9})\"?\s*\Z", re.ASCII | re.IGNORECASE)


def wait_of(prefer: str | None) -> float:
    """How long to wait: as a Prefer field asks, or WAIT_DEFAULT_S."""
    wait_s = wait_in(prefer)
    return WAIT_DEFAULT_S if wait_s is None else wait_s


def wait_in(prefer: str | None) -> float | None:
    """The seconds that a Prefer field asks to wait (RFC 7240), at most WAIT_MAX_S; what it says else is ignored."""
    for preference in (prefer or "").split(","):
        match = _WAIT.match(preference.partition(";")[0])
        if match is not None:
            return min(float(match[1]), WAIT_MAX_S)
    return None


def idempotency_key_of(field: str | None) -> str | None:
    """The id in an Idempotency-Key field: bare, or quoted as the draft of the standard wants it."""
    if field is None:
        return None
    text = field.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def rate_limit_fields(rejection: Mapping[str, Any]) -> dict[str, str]:
    """Retry-After and the RateLimit fields (draft-ietf-httpapi-ratelimit-headers) of a request refused for limits.

    A window slides, so `t` is when the next place is free, in whole seconds, rounded up.
    """
    retry_after_s = max(1, math.ceil(rejection["retry_after_s"]))
    policy = f'"{rejection["policy"]}"'
    return {
        "retry-after": str(retry_after_s),
        "ratelimit-policy": f"{policy};q={rejection['limit']};w={rejection['window_s']}",
        "ratelimit": f"{policy};r={rejection['remaining']};t={retry_after_s}",
    }
