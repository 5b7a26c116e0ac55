"""What happens in a run: the operations of users and the faults of machines, drawn from a seed, as plain data.

A plan is a list, so that a failing run can be made shorter by leaving items out.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import msgspec

from models.operations import POLICIES

PARTITIONS = 2
WORKERS = 3
LENGTH_S = 30.0


class Item(NamedTuple):
    """One thing that happens at `at_s`. `kind` names a method of the world; `what` are its arguments."""

    at_s: float
    kind: str
    what: dict[str, Any]

    def __str__(self) -> str:
        said = " ".join(f"{name}={value!r}" for name, value in self.what.items())
        return f"{self.at_s:7.3f} s  {self.kind:<14} {said}"


class Plan(NamedTuple):
    """A run: its seed, its items in order, and whether requests go on to be fulfilled."""

    seed: int
    items: list[Item]
    fulfilment: bool = False


IMAGE = {"operation": "maya.image"}
STUDIO = {"operation": "studio.images"}
VIDEO = {"operation": "video.animation", "options": {"image_url": "https://example.com/a.jpg"}}
TRAINING = {
    "operation": "training.model",
    "options": {"images": [f"https://example.com/{number}.jpg" for number in range(5)]},
}


def make_plan(seed: int, *, fulfilment: bool = False) -> Plan:
    """The plan of a seed."""
    dice = random.Random(seed)  # noqa: S311
    users = [f"user-{number}" for number in range(dice.randint(1, 5))]
    items = [
        *_limits_at_first(dice),
        *_grants(dice, users),
        *_requests(dice, users, fulfilment=fulfilment),
        *_junk(dice, users),
        *_limits_later(dice),
        *([*_cancels(dice, users), *_reads(dice, users), _provider(dice)] if fulfilment else ()),
        *_faults(dice, fulfilment=fulfilment),
    ]
    return Plan(seed, sorted(items, key=lambda item: item.at_s), fulfilment)


def _moment(dice: random.Random) -> float:
    """Often together with others, so that batches form and races happen."""
    at_s = dice.random() * LENGTH_S
    return round(at_s) + dice.random() * 0.02 if dice.random() < 0.6 else at_s


def _limit(dice: random.Random, at_s: float, policy: str) -> Item:
    what: dict[str, Any] = {"policy": policy, "limit": dice.randint(1, 5), "window_s": dice.choice([1, 2, 5, 20])}
    if dice.random() < 0.15:
        what["mode"] = "shadow"
    if dice.random() < 0.1:
        what["limit"] = 0
    return Item(at_s, "limit", what)


def _limits_at_first(dice: random.Random) -> list[Item]:
    """The catalogue's limits are for people; short windows reach their edges in seconds."""
    return [_limit(dice, 0.0, name) for name in POLICIES if dice.random() < 0.8]


def _limits_later(dice: random.Random) -> list[Item]:
    if dice.random() < 0.7:
        return []
    return [_limit(dice, _moment(dice), dice.choice(list(POLICIES))) for _ in range(dice.randint(1, 3))]


def _grants(dice: random.Random, users: list[str]) -> list[Item]:
    items = []
    for number in range(dice.randint(len(users), 3 * len(users))):
        user = dice.choice(users) if number >= len(users) else users[number]
        what = {"user_id": user, "grant_id": f"g{number}", "amount": dice.choice([1, 2, 5, 8, 30]), "kind": "purchase"}
        at_s = _moment(dice) * (0.1 if number < len(users) else 1.0)
        items.append(Item(at_s, "grant", what))
        if dice.random() < 0.25:
            items.append(Item(_moment(dice), "grant", what | _other_grant(dice, users)))
    return items


def _other_grant(dice: random.Random, users: list[str]) -> dict[str, Any]:
    """Most often the same again, sometimes something else under the same id."""
    chance = dice.random()
    if chance < 0.6:
        return {}
    return {"amount": 3} if chance < 0.8 else {"user_id": dice.choice(users)}


def _requests(dice: random.Random, users: list[str], *, fulfilment: bool) -> list[Item]:
    items: list[Item] = []
    kinds: list[dict[str, Any]] = [IMAGE, IMAGE, IMAGE, STUDIO, STUDIO, VIDEO, TRAINING]
    for number in range(dice.randint(8, 20 if fulfilment else 36)):
        what = dice.choice(kinds) | {"user_id": dice.choice(users), "request_id": f"r{number}", "prompt": f"p{number}"}
        if what["operation"] == "studio.images" and dice.random() < 0.5:
            what = what | {"options": {"num_outputs": dice.randint(1, 4)}}
        if dice.random() < 0.05:
            what = what | {"options": {"num_outputs": 9}}
        if dice.random() < 0.06:
            what = what | {"partition": dice.randrange(PARTITIONS)}
        items.append(Item(_moment(dice), "request", what))
        while dice.random() < 0.25:
            again = what | ({"prompt": "another"} if dice.random() < 0.25 else {})
            items.append(Item(_moment(dice), "request", again))
    return items


def _junk(dice: random.Random, users: list[str]) -> list[Item]:
    texts = ["", "{", "[1]", '{"request_id":"x"}', '{"request_id":"a b","user_id":"u"}', '{"user_id":"u","amount":-1}']
    return [
        Item(_moment(dice), "junk", {"to": dice.choice(["requests", "grants"]), "text": dice.choice(texts)})
        for _ in range(dice.choice([0, 0, 1, 2]))
    ]


def _cancels(dice: random.Random, users: list[str]) -> list[Item]:
    return [
        Item(_moment(dice), "cancel", {"user_id": dice.choice(users), "request_id": f"r{dice.randrange(20)}"})
        for _ in range(dice.randint(0, 5))
    ]


def _reads(dice: random.Random, users: list[str]) -> list[Item]:
    """Balances that dashboards ask for, and what befalls the cache."""
    items = [Item(_moment(dice), "read", {"user_id": dice.choice(users)}) for _ in range(dice.randint(0, 12))]
    items += [Item(_moment(dice), "redis_flush", {}) for _ in range(dice.choice([0, 0, 1, 2]))]
    away = [Item(_moment(dice), "redis_away", {"for_s": round(dice.random() * 3, 3)})]
    return items + (away if dice.random() < 0.3 else [])


TROUBLES = (
    *("busy", "throttled", "refused", "late", "not_sent", "answer_lost", "failed", "empty", "never", "lost"),
    *("webhook_lost", "webhook_twice", "webhook_late", "download"),
)


def _provider(dice: random.Random) -> Item:
    """How often what goes wrong there in this run."""
    rates = {name: dice.choice([0.05, 0.2, 0.4]) for name in TROUBLES if dice.random() < 0.4}
    return Item(0.0, "provider", rates)


def _faults(dice: random.Random, *, fulfilment: bool) -> list[Item]:
    if dice.random() < 0.1:
        return []
    kinds = ["crash", "crash", "pause", "pause", "pause", "rebalance", "postgres_away", "lost_commit", "lost_commit"]
    kinds += ["kafka_away", "lost_ack", "lost_ack", "clock_step", "clock_step", "slow"]
    kinds += ["pause_in_step", "pause_in_step", "pause_in_step", "crash_in_step"]
    return [_fault(dice, dice.choice(kinds)) for _ in range(dice.randint(2, 16))]


def _fault(dice: random.Random, kind: str) -> Item:
    at_s = _moment(dice) + dice.random() * 0.03
    what: dict[str, Any] = {}
    match kind:
        case "crash" | "slow":
            what = {"worker": dice.randrange(WORKERS), "for_s": round(dice.random() * 5, 3)}
        case "crash_in_step":
            what = {"worker": dice.randrange(WORKERS), "statements": dice.randrange(8)}
            what |= {"for_s": round(dice.random() * 5, 3)}
        case "pause" | "pause_in_step":
            for_s = dice.choice([0.3, 1.0, 3.0, 25.0]) * dice.random()
            what = {"worker": dice.randrange(WORKERS), "for_s": round(for_s, 3)}
            what |= {"unaware_s": round(dice.random() * 2, 3)}
            if kind == "pause_in_step":
                what |= {"statements": dice.randrange(8)}
        case "postgres_away" | "kafka_away":
            what = {"for_s": round(dice.random() * 3, 3)}
        case "lost_commit":
            what = {"done": dice.random() < 0.5}
        case "lost_ack":
            what = {"arrives": [dice.choice(["all", "none"]) for _ in range(dice.randint(1, 3))]}
        case "clock_step":
            step_ms = dice.choice([-8000, -5000, -2000, -1, 1, 700, 20_000])
            what = {"partition": dice.randrange(PARTITIONS), "step_ms": step_ms}
    return Item(at_s, kind, what)


def value_of(what: dict[str, Any]) -> bytes:
    """An operation as its record's value."""
    return msgspec.json.encode({name: value for name, value in what.items() if name != "partition"})
