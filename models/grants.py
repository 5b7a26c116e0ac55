"""Grants: credits given, once by (grant_id, kind)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from models.accounts import Account, Cause, CreditsChanged, LedgerEntry, credits_changed
from models.outputs import EventStamp, Output, Record, dead_letter, traceparent_of
from models.requests import Id, Unreadable, read_object
from models.routing import Forwarded, Misrouted, forwarded
from models.topics import CREDITS, GRANTED

KINDS = ("purchase", "subscription_grant", "bonus")
AMOUNT_MAX = 1_000_000


class Grant(msgspec.Struct, frozen=True):
    """credits.granted.v1"""

    grant_id: Id
    user_id: Id
    amount: Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
    kind: Literal["purchase", "subscription_grant", "bonus"]


class Granted(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """Booked."""

    balance: int
    version: int
    unlimited: bool


class AlreadyGranted(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The same grant again: nothing happens."""


class Dead(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Unreadable, or the grant_id is taken by another grant."""

    reason: str
    error: str


Decision = Granted | AlreadyGranted | Dead | Forwarded
Input = Grant | Misrouted | Unreadable


@dataclass(slots=True)
class Facts:
    """Accounts by user (made if absent) and booked grants: grant_id -> (user_id, amount, kind)."""

    accounts: dict[str, Account]
    known: dict[str, tuple[str, int, str]]


@dataclass(slots=True)
class Effects:
    """Ledger entries and the accounts they changed."""

    entries: list[LedgerEntry] = field(default_factory=list)
    changed: dict[str, Account] = field(default_factory=dict)


_decoder = msgspec.json.Decoder(Grant)
_stamp = EventStamp(CREDITS, "grants")


def read_grant(key: bytes | None, value: bytes | None) -> Grant | Unreadable:
    """Read one record of credits.granted.v1. Never raises."""
    try:
        grant = _decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        body = read_object(value)
        return body if isinstance(body, Unreadable) else Unreadable("bad_grant", str(error))
    if key != grant.user_id.encode():
        return Unreadable("wrong_key", "the record's key must be the user_id")
    return grant


def decide(inputs: Sequence[Input], facts: Facts) -> tuple[list[Decision], Effects]:
    """Book each new grant once, in stream order."""
    decisions: list[Decision] = []
    effects = Effects()
    for grant in inputs:
        if isinstance(grant, Unreadable):
            decisions.append(Dead(grant.reason, grant.error))
            continue
        if isinstance(grant, Misrouted):
            decisions.append(Forwarded())
            continue
        known = facts.known.get(grant.grant_id)
        content = (grant.user_id, grant.amount, grant.kind)
        if known is not None:
            decisions.append(AlreadyGranted() if known == content else Dead("grant_conflict", _conflict(grant, known)))
            continue
        account = facts.accounts[grant.user_id]
        effects.entries.append(account.move(grant.amount, grant.kind, grant.grant_id))
        effects.changed[grant.user_id] = account
        facts.known[grant.grant_id] = content
        decisions.append(Granted(account.balance, account.version, account.unlimited))
    return decisions, effects


def _conflict(grant: Grant, known: tuple[str, int, str]) -> str:
    return f"grant {grant.grant_id} was booked before as {known[1]} {known[2]} for {known[0]}; nothing was changed"


def render(records: Sequence[Record], inputs: Sequence[Input], decisions: Sequence[Decision]) -> list[Output]:
    """The events of these decisions."""
    outputs: list[Output] = []
    for record, grant, decision in zip(records, inputs, decisions, strict=True):
        if isinstance(decision, Dead):
            outputs.append(dead_letter(record, decision.reason, decision.error))
        elif isinstance(decision, Forwarded):
            outputs.append(forwarded(GRANTED, record))
        elif isinstance(decision, Granted) and isinstance(grant, Grant):
            cause = Cause(grant.kind, grant.grant_id, grant.amount)
            event = CreditsChanged(grant.user_id, decision.balance, decision.version, decision.unlimited, cause)
            outputs.append(credits_changed(_stamp, grant.user_id.encode(), event, traceparent_of(record)))
    return outputs
