"""Exact sliding windows: at no moment do more than `limit` units lie within any `window_ms`.

An entry made at t counts for every moment before t + window_ms and for none from then on: the window is
half open, (now - window_ms, now]. Times are the broker's, in milliseconds, and never decrease within a
partition, so each user's entries are sorted by construction.
"""

from __future__ import annotations

from bisect import bisect_right

from models.operations import Policy


class WindowLog:
    """Who was admitted when, for the policies of one partition. A function of admitted rows, kept in memory.

    Users are kept in the order of their last admission, so those who have gone idle are found at the front
    and memory is bounded by what lies inside the windows. A user's entries are a list, not a deque: a deque
    takes 600 bytes for one entry, and dropping a few from the front of a short list costs nothing.
    """

    __slots__ = ("_logs", "_spans_ms")

    def __init__(self) -> None:
        self._logs: dict[str, dict[str, list[int]]] = {}
        self._spans_ms: dict[str, int] = {}

    def keeps_enough(self, policy: Policy) -> bool:
        """Whether all entries of the policy's window are here; from now on no more than those are kept.

        False after the window has grown: older entries must be loaded (`restart`, then `add`) before deciding.
        """
        if policy.window_ms > self._spans_ms.get(policy.name, policy.window_ms):
            return False
        self._spans_ms[policy.name] = policy.window_ms
        return True

    def restart(self, policy: Policy) -> None:
        """Drop a policy's entries, to be loaded again for its window as it is now."""
        self._logs.pop(policy.name, None)
        self._spans_ms[policy.name] = policy.window_ms

    def free_at_ms(self, policy: Policy, user_id: str, at_ms: int) -> int:
        """The first moment, at_ms or later, at which a request of this policy's weight fits."""
        users = self._logs.get(policy.name)
        entries = users.get(user_id) if users is not None else None
        if policy.weight > policy.limit:
            return at_ms + policy.window_ms
        if entries is None:
            return at_ms
        horizon_ms = at_ms - policy.window_ms
        if entries and entries[0] <= horizon_ms:
            del entries[: bisect_right(entries, horizon_ms)]
        surplus = len(entries) + policy.weight - policy.limit
        return at_ms if surplus <= 0 else entries[surplus - 1] + policy.window_ms

    def add(self, policy: Policy, user_id: str, at_ms: int) -> None:
        """Record an admission."""
        users = self._logs.get(policy.name)
        if users is None:
            users = self._logs[policy.name] = {}
        entries = users.pop(user_id, None)
        if entries is None:
            entries = []
        users[user_id] = entries
        for _ in range(policy.weight):
            entries.append(at_ms)

    def remaining(self, policy: Policy, user_id: str, at_ms: int) -> int:
        """How many units still fit at this moment."""
        entries = self._logs.get(policy.name, {}).get(user_id, [])
        return max(0, policy.limit - (len(entries) - bisect_right(entries, at_ms - policy.window_ms)))

    def forget_idle(self, policy: Policy, at_ms: int) -> None:
        """Drop users whose last admission has left the window."""
        users = self._logs.get(policy.name)
        if not users:
            return
        horizon_ms = at_ms - policy.window_ms
        idle = []
        for user_id, entries in users.items():
            if entries and entries[-1] > horizon_ms:
                break
            idle.append(user_id)
        for user_id in idle:
            del users[user_id]

    def users(self) -> int:
        """How many (policy, user) pairs are held."""
        return sum(len(users) for users in self._logs.values())
