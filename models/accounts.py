"""Money: what an account is, and how a balance and its version move together.

Every change of a balance is one ledger entry and one version, so versions have no gaps and
balance = sum(ledger) holds at every moment. Repair is another entry, never an edit.
"""

from __future__ import annotations

import msgspec

from models.outputs import EventStamp, Output
from models.topics import CREDITS


class Account:
    """A user's balance as the open transaction sees it; changed in place while a batch is decided."""

    __slots__ = ("balance", "unlimited", "user_id", "version")

    def __init__(self, user_id: str, balance: int = 0, version: int = 0, unlimited: bool = False) -> None:
        self.user_id = user_id
        self.balance = balance
        self.version = version
        self.unlimited = unlimited

    def move(self, amount: int, kind: str, reference_id: str) -> LedgerEntry:
        """Change the balance and return the entry that says so. The caller has checked that it stays >= 0."""
        self.balance += amount
        self.version += 1
        return LedgerEntry(self.user_id, amount, kind, reference_id, self.balance, self.version)


class LedgerEntry(msgspec.Struct, frozen=True, gc=False):
    """One movement of credits; unique by (reference_id, kind). amount < 0 is a charge."""

    user_id: str
    amount: int
    kind: str
    reference_id: str
    balance_after: int
    version: int


class Cause(msgspec.Struct, frozen=True, gc=False):
    """The last entry behind a balance."""

    kind: str
    reference_id: str
    amount: int


class CreditsChanged(msgspec.Struct, frozen=True, gc=False):
    """credits.changed.v1: a balance and its version. Order by version, not by arrival."""

    user_id: str
    balance: int
    version: int
    unlimited: bool
    cause: Cause


_encode = msgspec.json.Encoder().encode


def credits_changed(stamp: EventStamp, key: bytes, event: CreditsChanged, traceparent: str | None = None) -> Output:
    """The event of one ledger entry; its id is the account's version, which names it for ever."""
    return (CREDITS, key, _encode(event), stamp.headers(f"{event.user_id}/credits/{event.version}", traceparent))


def charge_reference(user_id: str, request_id: str) -> str:
    """The ledger's reference of a request's charge and of its whole refund."""
    return f"{user_id}/{request_id}"


def output_refund_reference(user_id: str, request_id: str, output_index: int) -> str:
    """The ledger's reference of the refund of one missing picture of a set."""
    return f"{user_id}/{request_id}/{output_index}"
