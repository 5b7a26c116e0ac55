"""Admission: the exact window, then the charge; each request answered once, the same way for ever.

`decide` is a function of the records, the committed facts, the partition's state and the policies that hold. Its
decisions hold all that rendering needs (models/answers.py), so that outputs can be made again after a crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from models.accounts import Account, LedgerEntry, charge_reference
from models.in_flight import InFlight
from models.operations import OPERATIONS, Mode, Policy
from models.outputs import Record
from models.requests import FieldError, MalformedRequest, Request, Unreadable, encode_context, encode_options
from models.routing import Forwarded, Misrouted
from models.windows import WindowLog

Input = Request | MalformedRequest | Misrouted | Unreadable


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


class TooManyInFlight(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """The user has as many requests under way as the policy allows at once."""

    policy: str
    limit: int
    window_s: int
    remaining: int
    max_in_flight: int


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


Decision = (
    Admitted | Repeated | RateLimited | TooManyInFlight | InsufficientCredits | Conflicting | Invalid | Dead | Forwarded
)


class Admission(msgspec.Struct, frozen=True, gc=False):
    """The row of an admitted request: what was asked, and how it was answered.

    `window_limit` and `window_s` are what was enforced then, so that the books can be checked whatever the policy
    becomes; None in shadow mode, where nothing is enforced.
    """

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
    window_limit: int | None = None
    window_s: int | None = None

    def is_of(self, request: Request) -> bool:
        """Whether the request asks for the same; the ids are the same already."""
        return (
            self.operation == request.operation
            and self.prompt == request.prompt
            and self.options == encode_options(request.options)
            and self.context == encode_context(request.context)
        )


@dataclass(slots=True)
class Facts:
    """What is committed: accounts by user, admitted requests by (user_id, request_id). Changed while deciding."""

    accounts: dict[str, Account]
    known: dict[tuple[str, str], Admission]


@dataclass(slots=True)
class PartitionState:
    """What one partition's admissions are limited by: a function of committed rows, kept in memory."""

    windows: WindowLog = field(default_factory=WindowLog)
    in_flight: InFlight = field(default_factory=InFlight)


@dataclass(slots=True)
class Effects:
    """What the step writes: new rows, ledger entries and the accounts they changed.

    `shadowed` counts, by policy, what was admitted only because its policy is in shadow mode.
    """

    generations: list[Admission] = field(default_factory=list)
    entries: list[LedgerEntry] = field(default_factory=list)
    changed: dict[str, Account] = field(default_factory=dict)
    shadowed: Counter[str] = field(default_factory=Counter)


def decide(
    records: Sequence[Record],
    inputs: Sequence[Input],
    facts: Facts,
    state: PartitionState,
    policies: Mapping[str, Policy],
    clock_ms: int,
) -> tuple[list[Decision], Effects, int]:
    """Decide a batch in stream order: (a decision per record, effects, the partition's clock after the batch).

    `state` and `facts` are changed in place; whoever rolls the transaction back drops them.
    """
    decisions: list[Decision] = []
    effects = Effects()
    policy_of = {name: policies[operation.policy.name] for name, operation in OPERATIONS.items()}
    for record, request in zip(records, inputs, strict=True):
        if record.timestamp > clock_ms:
            clock_ms = record.timestamp
        if type(request) is Request:
            policy = policy_of[request.operation]
            decisions.append(_decide_one(record, request, policy, facts, state, clock_ms, effects))
        elif type(request) is MalformedRequest:
            decisions.append(Invalid(request.errors))
        elif type(request) is Misrouted:
            decisions.append(Forwarded())
        else:
            assert type(request) is Unreadable
            decisions.append(Dead(request.reason, request.error))
    for policy in policies.values():
        state.windows.forget_idle(policy, clock_ms)
    state.in_flight.forget_idle(clock_ms)
    return decisions, effects, clock_ms


def _decide_one(
    record: Record,
    request: Request,
    policy: Policy,
    facts: Facts,
    state: PartitionState,
    now_ms: int,
    effects: Effects,
) -> Decision:
    user_id = request.user_id
    identity = (user_id, request.request_id)
    known = facts.known.get(identity)
    if known is not None:
        if not known.is_of(request):
            return Conflicting()
        return Repeated(known.cost, known.balance, known.version, known.admitted_at_ms)

    operation = OPERATIONS[request.operation]
    is_enforced = policy.mode is Mode.ENFORCE
    limited = _limited(record, policy, user_id, state, now_ms)
    if limited is not None and is_enforced:
        return limited

    account = facts.accounts.get(user_id)
    cost = operation.cost_of(request.options.num_outputs)
    if account is None:
        return InsufficientCredits(cost, 0)
    if account.unlimited:
        cost = 0
    if account.balance < cost:
        return InsufficientCredits(cost, account.balance)

    if limited is not None:
        effects.shadowed[policy.name] += 1
    state.windows.add(policy, user_id, now_ms)
    if policy.max_in_flight is not None:
        state.in_flight.add(policy, user_id, request.request_id, now_ms)
    if cost:
        effects.entries.append(account.move(-cost, "charge", charge_reference(*identity)))
        effects.changed[user_id] = account
    admission = Admission(
        user_id,
        request.request_id,
        operation.name,
        cost,
        account.balance,
        account.version,
        request.prompt,
        encode_options(request.options),
        encode_context(request.context),
        now_ms,
        policy.limit if is_enforced else None,
        policy.window_s if is_enforced else None,
    )
    effects.generations.append(admission)
    facts.known[identity] = admission
    return Admitted(cost, account.balance, account.version, now_ms - record.timestamp, account.unlimited)


def _limited(
    record: Record, policy: Policy, user_id: str, state: PartitionState, now_ms: int
) -> RateLimited | TooManyInFlight | None:
    windows = state.windows
    free_at_ms = windows.free_at_ms(policy, user_id, now_ms)
    if free_at_ms > now_ms:
        remaining = windows.remaining(policy, user_id, now_ms)
        return RateLimited(policy.name, policy.limit, policy.window_s, remaining, free_at_ms - record.timestamp)
    if policy.max_in_flight is not None and state.in_flight.count(policy, user_id) >= policy.max_in_flight:
        remaining = windows.remaining(policy, user_id, now_ms)
        return TooManyInFlight(policy.name, policy.limit, policy.window_s, remaining, policy.max_in_flight)
    return None
