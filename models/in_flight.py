"""Requests under way: what `max_in_flight` counts, for the policies of one partition that have such a cap.

Admission adds; it does not hear of ends. So a count may be too high, never too low, and before it refuses somebody
it asks the rows which of that user's requests have ended (`doubtful`, then `forget`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from models.operations import LONGEST_DEADLINE_S, Policy

Identity = tuple[str, str]
SLACK_MS = 10 * 60 * 1000
LONGEST_LIFE_MS = int(LONGEST_DEADLINE_S * 1000) + SLACK_MS
"""Every request has ended by then: its deadline, and some minutes for the refund to be written."""


class InFlight:
    """Admission times of requests that may be unfinished, by policy and user. A function of committed rows."""

    __slots__ = ("_users",)

    def __init__(self) -> None:
        self._users: dict[str, dict[str, dict[str, int]]] = {}

    def counts(self, policy: Policy) -> bool:
        """Whether this policy's requests are counted here."""
        return policy.name in self._users

    def restart(self, policy: Policy) -> None:
        """Count this policy's requests from now on; those that are under way are to be added."""
        self._users[policy.name] = {}

    def stop(self, policy: Policy) -> None:
        """The policy has no cap any more."""
        self._users.pop(policy.name, None)

    def add(self, policy: Policy, user_id: str, request_id: str, at_ms: int) -> None:
        """Record an admission; nothing if the policy has no cap."""
        users = self._users.get(policy.name)
        if users is not None:
            requests = users.pop(user_id, {})
            requests[request_id] = at_ms
            users[user_id] = requests

    def count(self, policy: Policy, user_id: str) -> int:
        """How many of the user's requests may be unfinished."""
        users = self._users.get(policy.name)
        return len(users.get(user_id, ())) if users is not None else 0

    def doubtful(self, asked: Iterable[tuple[str, str]], policies: Mapping[str, Policy]) -> list[Identity]:
        """The requests to ask the rows about before these (policy name, user_id) are decided, one for each request."""
        found: list[Identity] = []
        for (name, user_id), more in Counter(asked).items():
            policy = policies[name]
            held = self._users.get(name, {}).get(user_id)
            if held and policy.max_in_flight is not None and len(held) + more > policy.max_in_flight:
                found += [(user_id, request_id) for request_id in held]
        return found

    def forget(self, ended: Iterable[Identity]) -> None:
        """These requests have ended."""
        for user_id, request_id in ended:
            for users in self._users.values():
                requests = users.get(user_id)
                if requests is not None and requests.pop(request_id, None) is not None and not requests:
                    del users[user_id]

    def forget_idle(self, at_ms: int) -> None:
        """Drop users whose last request must have ended by now."""
        for users in self._users.values():
            idle = []
            for user_id, requests in users.items():
                if max(requests.values()) > at_ms - LONGEST_LIFE_MS:
                    break
                idle.append(user_id)
            for user_id in idle:
                del users[user_id]
