"""What a producer is told when there are no pictures: refused, failed, or not known yet. Pure.

DarkroomError
├── Refused                 the request was not admitted, and nothing was charged
│   ├── RateLimited         too many in the window, or too many under way
│   ├── InsufficientCredits
│   ├── Invalid             `errors` names the fields
│   └── Conflict            the id was used before for something else
├── GenerationFailed        admitted, and ended without pictures; `refunded` credits were given back
└── Unavailable
    └── Pending             not known in time; asking again under the same id is safe
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from models.errors import DarkroomError, Unavailable
from models.requests import FieldError


class Refused(DarkroomError):
    """The request was not admitted, and nothing was charged. `str(error)` is a sentence a product can show."""

    code = "refused"

    def __init__(self, user_id: str, request_id: str, message: str) -> None:
        super().__init__(message)
        self.user_id = user_id
        self.request_id = request_id


class RateLimited(Refused):
    """Over a limit; the same request may be sent again under the same id `retry_after_s` seconds later.

    `limit` units in any `window_s` seconds, of which `remaining` are left. `max_in_flight` is set when it is not the
    window but the number of unfinished requests that stands in the way.
    """

    code = "rate_limited"

    def __init__(
        self,
        user_id: str,
        request_id: str,
        message: str,
        *,
        policy: str = "",
        limit: int = 0,
        window_s: int = 0,
        remaining: int = 0,
        retry_after_s: float = 0.0,
        max_in_flight: int | None = None,
    ) -> None:
        super().__init__(user_id, request_id, message)
        self.policy = policy
        self.limit = limit
        self.window_s = window_s
        self.remaining = remaining
        self.retry_after_s = retry_after_s
        self.max_in_flight = max_in_flight


class InsufficientCredits(Refused):
    """The user has `current` credits and needs `required`; after a grant the same request may be sent again."""

    code = "insufficient_credits"

    def __init__(self, user_id: str, request_id: str, message: str, *, required: int = 0, current: int = 0) -> None:
        super().__init__(user_id, request_id, message)
        self.required = required
        self.current = current


class Invalid(Refused):
    """Something in the request is wrong, field by field in `errors`; sending it again does not help."""

    code = "invalid"

    def __init__(self, user_id: str, request_id: str, message: str, *, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(user_id, request_id, message)
        self.errors = errors


class Conflict(Refused):
    """The id was used before for something else: other content takes a new id."""

    code = "conflict"


class GenerationFailed(DarkroomError):
    """An admitted request ended without what was asked for, and `refunded` credits were given back.

    `reason` is provider_failed, provider_rejected, outputs_lost, expired or cancelled.
    """

    code = "generation_failed"

    def __init__(self, user_id: str, request_id: str, message: str, *, reason: str, refunded: int) -> None:
        super().__init__(message)
        self.user_id = user_id
        self.request_id = request_id
        self.reason = reason
        self.refunded = refunded


class Pending(Unavailable):
    """Nothing is known of the request within the time given. It may be admitted later: ask again under the same id."""

    code = "pending"

    def __init__(self, user_id: str, request_id: str, problem: str) -> None:
        super().__init__(f"the answer to {request_id}", problem)
        self.user_id = user_id
        self.request_id = request_id


class _Fields(msgspec.Struct):
    policy: str = ""
    limit: int = 0
    window_s: int = 0
    remaining: int = 0
    retry_after_s: float = 0.0
    max_in_flight: int | None = None
    required: int = 0
    current: int = 0
    errors: tuple[FieldError, ...] = ()


def refusal(reason: str, user_id: str, request_id: str, message: str, fields: Mapping[str, Any]) -> Refused | None:
    """The refusal that an event (generations.rejected.v1) or a problem document tells of; None for other reasons."""
    about = (user_id, request_id, message)
    try:
        known = msgspec.convert(fields, _Fields)
    except msgspec.ValidationError:
        known = _Fields()
    match reason:
        case "rate_limited":
            return RateLimited(
                *about,
                policy=known.policy,
                limit=known.limit,
                window_s=known.window_s,
                remaining=known.remaining,
                retry_after_s=known.retry_after_s,
                max_in_flight=known.max_in_flight,
            )
        case "insufficient_credits":
            return InsufficientCredits(*about, required=known.required, current=known.current)
        case "invalid":
            return Invalid(*about, errors=known.errors)
        case "conflict":
            return Conflict(*about)
    return None
