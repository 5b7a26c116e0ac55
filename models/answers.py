"""The answers to requests: what admission's decisions become on the wire.

Pure, and the same again after a crash: event ids and bodies are made from the records and the stored decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from models.accounts import Cause, CreditsChanged, charge_reference, credits_changed
from models.admission import (
    Admitted,
    Dead,
    Decision,
    Input,
    InsufficientCredits,
    Invalid,
    RateLimited,
    Repeated,
    TooManyInFlight,
)
from models.operations import OPERATIONS, Operation
from models.outputs import EventStamp, Output, Record, Rfc3339, dead_letter, rfc3339, traceparent_of
from models.requests import Context, FieldError, MalformedRequest, OperationName, Options, Request
from models.routing import Forwarded, forwarded
from models.topics import ADMITTED, CREDITS, REJECTED, REQUESTED

IN_FLIGHT_RETRY_S = 5.0
"""When a request will end nobody can say; this is when to look again."""


REASONS = ("rate_limited", "insufficient_credits", "invalid", "conflict")
"""Why a request may be refused."""


class GenerationAdmitted(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """generations.admitted.v1"""

    request_id: str
    user_id: str
    operation: OperationName
    prompt: str
    options: Options
    cost: int
    balance: int
    version: int
    admitted_at: Rfc3339
    context: Context | None = None


class GenerationRejected(msgspec.Struct, frozen=True, omit_defaults=True):
    """generations.rejected.v1: why, and what a producer can do about it."""

    request_id: str
    user_id: str
    operation: str
    reason: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(REASONS)})]
    message: str
    policy: str | msgspec.UnsetType = msgspec.UNSET
    limit: int | msgspec.UnsetType = msgspec.UNSET
    window_s: int | msgspec.UnsetType = msgspec.UNSET
    remaining: int | msgspec.UnsetType = msgspec.UNSET
    retry_after_s: float | msgspec.UnsetType = msgspec.UNSET
    max_in_flight: int | msgspec.UnsetType = msgspec.UNSET
    required: int | msgspec.UnsetType = msgspec.UNSET
    current: int | msgspec.UnsetType = msgspec.UNSET
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode
_admitted_stamp = EventStamp(ADMITTED, "admit")
_rejected_stamp = EventStamp(REJECTED, "admit")
_credits_stamp = EventStamp(CREDITS, "admit")


def render(records: Sequence[Record], inputs: Sequence[Input], decisions: Sequence[Decision]) -> list[Output]:
    """The events of these decisions. Called again after a crash it returns the same ids and bodies."""
    outputs: list[Output] = []
    for record, request, decision in zip(records, inputs, decisions, strict=True):
        kind = type(decision)
        if kind is Admitted:
            _render_admitted(outputs, record, request, decision)  # type: ignore[arg-type]
        elif kind is Repeated:
            _render_admission(outputs, record, request, decision, decision.admitted_at_ms)  # type: ignore[arg-type, union-attr]
        elif kind is Forwarded:
            outputs.append(forwarded(REQUESTED, record))
        elif kind is Dead:
            outputs.append(dead_letter(record, decision.reason, decision.error))  # type: ignore[union-attr]
        else:
            outputs.append(_render_rejected(record, request, decision))  # type: ignore[arg-type]
    return outputs


def _render_admitted(outputs: list[Output], record: Record, request: Request, decision: Admitted) -> None:
    trace = _render_admission(outputs, record, request, decision, record.timestamp + decision.late_ms)
    if decision.cost:
        cause = Cause("charge", charge_reference(request.user_id, request.request_id), -decision.cost)
        event = CreditsChanged(request.user_id, decision.balance, decision.version, decision.unlimited, cause)
        assert record.key is not None
        outputs.append(credits_changed(_credits_stamp, record.key, event, trace))


def _render_admission(
    outputs: list[Output], record: Record, request: Request, decision: Admitted | Repeated, admitted_at_ms: int
) -> str | None:
    """Adds the event; returns the trace that it belongs to."""
    event = GenerationAdmitted(
        request.request_id,
        request.user_id,
        request.operation,
        request.prompt,
        request.options,
        decision.cost,
        decision.balance,
        decision.version,
        rfc3339(admitted_at_ms),
        request.context,
    )
    event_id = f"{request.user_id}/{request.request_id}/admitted"
    trace = traceparent_of(record) if record.headers else None
    outputs.append((ADMITTED, record.key, _encode(event), _admitted_stamp.headers(event_id, trace)))
    return trace


def _render_rejected(record: Record, request: Request | MalformedRequest, decision: Decision) -> Output:
    about = (request.request_id, request.user_id, request.operation)
    match decision:
        case RateLimited():
            event = GenerationRejected(
                *about,
                "rate_limited",
                rate_limited_message(OPERATIONS[request.operation], decision.retry_after_ms),
                policy=decision.policy,
                limit=decision.limit,
                window_s=decision.window_s,
                remaining=decision.remaining,
                retry_after_s=decision.retry_after_ms / 1000,
            )
        case TooManyInFlight():
            event = GenerationRejected(
                *about,
                "rate_limited",
                in_flight_message(OPERATIONS[request.operation], decision.max_in_flight),
                policy=decision.policy,
                limit=decision.limit,
                window_s=decision.window_s,
                remaining=decision.remaining,
                retry_after_s=IN_FLIGHT_RETRY_S,
                max_in_flight=decision.max_in_flight,
            )
        case InsufficientCredits():
            event = GenerationRejected(
                *about,
                "insufficient_credits",
                insufficient_credits_message(decision.required, decision.current),
                required=decision.required,
                current=decision.current,
            )
        case Invalid():
            event = GenerationRejected(*about, "invalid", _invalid_message(decision.errors), errors=decision.errors)
        case _:
            event = GenerationRejected(*about, "conflict", "This request id was used before for something else.")
    # A request refused for limits or credits may come again, so its answer is named by the record, not the id.
    event_id = f"{request.user_id}/{request.request_id}/rejected/{record.partition}-{record.offset}"
    trace = traceparent_of(record) if record.headers else None
    key = request.user_id.encode()
    return (REJECTED, key, _encode(event), _rejected_stamp.headers(event_id, trace))


def rate_limited_message(operation: Operation, retry_after_ms: int) -> str:
    """A sentence that a product can show."""
    return f"Too many {operation.label} requests. Try again in {-(-retry_after_ms // 1000)} s."


def in_flight_message(operation: Operation, max_in_flight: int) -> str:
    """A sentence that a product can show."""
    plural = "" if max_in_flight == 1 else "s"
    return f"You have {max_in_flight} {operation.label} request{plural} under way. Try again when one is done."


def insufficient_credits_message(required: int, current: int) -> str:
    """A sentence that a product can show."""
    return f"This needs {required} credit{'' if required == 1 else 's'} and you have {current}."


def _invalid_message(errors: Sequence[FieldError]) -> str:
    first = errors[0]
    return f"{first.field or 'request'}: {first.problem}"
