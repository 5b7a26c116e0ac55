"""Admission: the exact window, then the charge; each request answered once, the same way for ever.

`decide` is a function of the records, the committed facts and the partition's windows. Its decisions hold all
that `render` needs, so outputs can be made again after a crash without deciding again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from models.accounts import Account, Cause, CreditsChanged, LedgerEntry, charge_reference, credits_changed
from models.operations import OPERATIONS, Operation
from models.outputs import EventStamp, Output, Record, bounded_headers, dead_letter, rfc3339, traceparent_of
from models.requests import Context, FieldError, MalformedRequest, Options, Request, Unreadable
from models.topics import ADMITTED, CREDITS, REJECTED, REQUESTED
from models.windows import WindowLog


class Misrouted(msgspec.Struct, frozen=True, gc=False):
    """A good request in a partition that its key does not belong to, from a client with another partitioner."""


Input = Request | MalformedRequest | Misrouted | Unreadable
Content = tuple[str, str, bytes, bytes | None]


class Admitted(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """Taken on. `late_ms` is how far the admission's time lies after the record's own (0 but for clock steps)."""

    cost: int
    balance: int
    version: int
    late_ms: int = 0
    unlimited: bool = False


class Repeated(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The same request again: the first answer is given again, nothing is charged."""

    cost: int
    balance: int
    version: int
    admitted_at_ms: int


class RateLimited(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The window is full until `retry_after_ms` from the record's time."""

    policy: str
    limit: int
    window_s: int
    remaining: int
    retry_after_ms: int


class InsufficientCredits(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The balance does not cover the cost."""

    required: int
    current: int


class Conflicting(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The id is taken by a request with other content."""


class Invalid(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The request cannot be meant as it is."""

    errors: list[FieldError]


class Dead(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Nobody can be answered; the record goes to the dead letters."""

    reason: str
    error: str


class Forwarded(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Sent on, unchanged, to the partition of its key: a user's limits are exact only where all requests meet."""


Decision = Admitted | Repeated | RateLimited | InsufficientCredits | Conflicting | Invalid | Dead | Forwarded


@dataclass(slots=True)
class Known:
    """A request that is admitted already: what was asked and how it was answered."""

    content: Content
    cost: int
    balance: int
    version: int
    admitted_at_ms: int


@dataclass(slots=True)
class Facts:
    """What is committed: accounts by user, admitted requests by (user_id, request_id). Changed while deciding."""

    accounts: dict[str, Account]
    known: dict[tuple[str, str], Known]


class NewGeneration(msgspec.Struct, frozen=True, gc=False):
    """The row of an admitted request."""

    user_id: str
    request_id: str
    operation: str
    cost: int
    balance: int
    version: int
    prompt: str
    options: bytes
    context: bytes | None
    admitted_at_ms: int


@dataclass(slots=True)
class Effects:
    """What the step writes: new rows, ledger entries and the accounts they changed."""

    generations: list[NewGeneration] = field(default_factory=list)
    entries: list[LedgerEntry] = field(default_factory=list)
    changed: dict[str, Account] = field(default_factory=dict)


def decide(
    records: Sequence[Record], inputs: Sequence[Input], facts: Facts, windows: WindowLog, clock_ms: int
) -> tuple[list[Decision], Effects, int]:
    """Decide a batch in stream order: (a decision per record, effects, the partition's clock after the batch).

    `windows` and `facts` are changed in place; whoever rolls the transaction back drops them.
    """
    decisions: list[Decision] = []
    effects = Effects()
    for record, request in zip(records, inputs, strict=True):
        if record.timestamp > clock_ms:
            clock_ms = record.timestamp
        if type(request) is Request:
            decisions.append(_decide_one(record, request, facts, windows, clock_ms, effects))
        elif type(request) is MalformedRequest:
            decisions.append(Invalid(request.errors))
        elif type(request) is Misrouted:
            decisions.append(Forwarded())
        else:
            assert type(request) is Unreadable
            decisions.append(Dead(request.reason, request.error))
    for operation in OPERATIONS.values():
        windows.forget_idle(operation.policy, clock_ms)
    return decisions, effects, clock_ms


def _decide_one(
    record: Record, request: Request, facts: Facts, windows: WindowLog, now_ms: int, effects: Effects
) -> Decision:
    user_id = request.user_id
    identity = (user_id, request.request_id)
    content = request.content()
    known = facts.known.get(identity)
    if known is not None:
        if known.content != content:
            return Conflicting()
        return Repeated(known.cost, known.balance, known.version, known.admitted_at_ms)

    operation = OPERATIONS[request.operation]
    policy = operation.policy
    free_at_ms = windows.free_at_ms(policy, user_id, now_ms)
    if free_at_ms > now_ms:
        remaining = windows.remaining(policy, user_id, now_ms)
        return RateLimited(policy.name, policy.limit, policy.window_s, remaining, free_at_ms - record.timestamp)

    account = facts.accounts.get(user_id)
    if account is None:
        return InsufficientCredits(operation.cost, 0)
    cost = 0 if account.unlimited else operation.cost
    if account.balance < cost:
        return InsufficientCredits(cost, account.balance)

    windows.add(policy, user_id, now_ms)
    if cost:
        effects.entries.append(account.move(-cost, "charge", charge_reference(*identity)))
        effects.changed[user_id] = account
    effects.generations.append(
        NewGeneration(
            user_id,
            request.request_id,
            operation.name,
            cost,
            account.balance,
            account.version,
            request.prompt,
            content[2],
            content[3],
            now_ms,
        )
    )
    facts.known[identity] = Known(content, cost, account.balance, account.version, now_ms)
    return Admitted(cost, account.balance, account.version, now_ms - record.timestamp, account.unlimited)


class GenerationAdmitted(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """generations.admitted.v1"""

    request_id: str
    user_id: str
    operation: str
    prompt: str
    options: Options
    cost: int
    balance: int
    version: int
    admitted_at: str
    context: Context | None = None


class GenerationRejected(msgspec.Struct, frozen=True, omit_defaults=True):
    """generations.rejected.v1: why, and what a producer can do about it."""

    request_id: str
    user_id: str
    operation: str
    reason: str
    message: str
    policy: str | msgspec.UnsetType = msgspec.UNSET
    limit: int | msgspec.UnsetType = msgspec.UNSET
    window_s: int | msgspec.UnsetType = msgspec.UNSET
    remaining: int | msgspec.UnsetType = msgspec.UNSET
    retry_after_s: float | msgspec.UnsetType = msgspec.UNSET
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
            outputs.append((REQUESTED, record.key, record.value, bounded_headers(record.headers)))
        elif kind is Dead:
            outputs.append(dead_letter(record, decision.reason, decision.error))  # type: ignore[union-attr]
        else:
            outputs.append(_render_rejected(record, request, decision))  # type: ignore[arg-type]
    return outputs


def _render_admitted(outputs: list[Output], record: Record, request: Request, decision: Admitted) -> None:
    _render_admission(outputs, record, request, decision, record.timestamp + decision.late_ms)
    if decision.cost:
        cause = Cause("charge", charge_reference(request.user_id, request.request_id), -decision.cost)
        event = CreditsChanged(request.user_id, decision.balance, decision.version, decision.unlimited, cause)
        assert record.key is not None
        outputs.append(credits_changed(_credits_stamp, record.key, event))


def _render_admission(
    outputs: list[Output], record: Record, request: Request, decision: Admitted | Repeated, admitted_at_ms: int
) -> None:
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


def insufficient_credits_message(required: int, current: int) -> str:
    """A sentence that a product can show."""
    return f"This needs {required} credit{'' if required == 1 else 's'} and you have {current}."


def _invalid_message(errors: Sequence[FieldError]) -> str:
    first = errors[0]
    return f"{first.field or 'request'}: {first.problem}"
