"""Limits that change while everything runs: what `limits.changed.v1` says, and the policies that hold now.

The catalogue's policies (models/operations.py) hold until an event says otherwise. The topic is compacted by policy,
so the last event of each is all there is to know; a tombstone brings the catalogue's policy back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated

import msgspec

from models.errors import WrongUse
from models.operations import POLICIES, Mode, Policy
from models.outputs import EventStamp, Output
from models.requests import Unreadable, read_object
from models.topics import LIMITS

LIMIT_MAX = 1_000_000
WINDOW_S_MAX = 31 * 86_400


Moment = tuple[int, int, int]
"""When a change was made: (broker time in ms, partition, offset)."""


class LimitsChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """limits.changed.v1: a policy as it is from now on."""

    policy: str
    limit: Annotated[int, msgspec.Meta(ge=0, le=LIMIT_MAX)]
    window_s: Annotated[int, msgspec.Meta(ge=1, le=WINDOW_S_MAX)]
    mode: Mode = Mode.ENFORCE
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] | None = None


class Policies(Mapping[str, Policy]):
    """The policies that hold now, by name."""

    def __init__(self) -> None:
        self._now = dict(POLICIES)
        self._since: dict[str, Moment] = {}

    def __getitem__(self, name: str) -> Policy:
        return self._now[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def apply(self, key: bytes | None, value: bytes | None, moment: Moment) -> Policy | Unreadable:
        """Bring in one record of the topic: the policy as it is now, or why nothing was changed. Never raises.

        The latest record counts, whatever the order of reading: a client with another partitioner may have put an
        older one into another partition, and after trouble the topic is read again from its beginning.
        """
        policy = read_change(key, value)
        if isinstance(policy, Unreadable):
            return policy
        if moment >= self._since.get(policy.name, moment):
            self._since[policy.name] = moment
            self._now[policy.name] = policy
        return self._now[policy.name]


_decoder = msgspec.json.Decoder(LimitsChanged)
_encode = msgspec.json.Encoder().encode
_stamp = EventStamp(LIMITS, "limits")


def read_change(key: bytes | None, value: bytes | None) -> Policy | Unreadable:
    """Read one record of limits.changed.v1. Never raises."""
    name = (key or b"").decode(errors="replace")
    known = POLICIES.get(name)
    if known is None:
        return Unreadable("unknown_policy", f"the key is {name[:100]!r}, must be one of {', '.join(POLICIES)}")
    if value is None:
        return known
    try:
        change = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        body = read_object(value)
        return body if isinstance(body, Unreadable) else Unreadable("bad_change", str(error))
    if change.policy != name:
        return Unreadable("wrong_key", f"the key is {name!r}, the policy {change.policy[:100]!r}")
    return replace(
        known, limit=change.limit, window_s=change.window_s, mode=change.mode, max_in_flight=change.max_in_flight
    )


def changed_policy(policy: Policy, change: Mapping[str, object]) -> Policy:
    """The policy with some fields changed.

    Raises WrongUse: no worker would take it; the line names the field.
    """
    wanted = replace(policy, **change)  # type: ignore[arg-type]
    _, key, value, _ = render_change(wanted, "")
    read = read_change(key, value)
    if isinstance(read, Unreadable):
        problem, _, place = read.error.partition(" - at `$.")
        raise WrongUse(f"{place.rstrip('`') or 'the change'}: {problem}")
    return read


def render_change(policy: Policy, event_id: str) -> Output:
    """The event that makes this policy hold."""
    event = LimitsChanged(policy.name, policy.limit, policy.window_s, policy.mode, policy.max_in_flight)
    return (LIMITS, policy.name.encode(), _encode(event), _stamp.headers(event_id))
