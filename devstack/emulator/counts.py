"""What the emulator was asked to run: totals, and for every request of ours the predictions it paid for."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Counts:
    """Totals by name, prediction ids by `user/request`, and how often each request was tried."""

    def __init__(self, requests_max: int) -> None:
        self.totals: Counter[str] = Counter()
        self._max = requests_max
        self._requests: OrderedDict[str, list[str]] = OrderedDict()
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self._dropped = 0

    def attempt_of(self, identity: str) -> int:
        """Counts one more try of this request; 1 for the first."""
        attempt = self._attempts.pop(identity, 0) + 1
        self._attempts[identity] = attempt
        if len(self._attempts) > self._max:
            self._attempts.popitem(last=False)
        return attempt

    def created(self, identity: str, prediction_id: str) -> None:
        self._requests.setdefault(identity, []).append(prediction_id)
        if len(self._requests) > self._max:
            self._requests.popitem(last=False)
            self._dropped += 1

    def report(self, with_requests: bool, user: str = "", request: str = "") -> dict[str, Any]:
        """JSON-ready. `complete` false means that the oldest requests were dropped at the bound."""
        answer: dict[str, Any] = {
            "totals": dict(sorted(self.totals.items())),
            "complete": self._dropped == 0,
            "requests_seen": len(self._requests),
            "paid_twice": {name: ids for name, ids in self._requests.items() if len(ids) > 1},
        }
        if user and request:
            name = f"{user}/{request}"
            answer["requests"] = {name: self._requests.get(name, [])}
        elif with_requests:
            wanted = f"{user}/" if user else ""
            answer["requests"] = {n: ids for n, ids in self._requests.items() if n.startswith(wanted)}
        return answer


def request_named_in(webhook_url: str) -> str | None:
    """`user/request` from the webhook URL's query, or None when it does not say both."""
    if "?" not in webhook_url:
        return None
    query = parse_qs(urlsplit(webhook_url).query)
    user, request = query.get("user", [""])[0], query.get("request", [""])[0]
    return f"{user}/{request}" if user and request else None
