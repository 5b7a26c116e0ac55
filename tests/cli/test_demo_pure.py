"""The demo's plan and its counting, without anything running."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from cli.demo_tally import LATENCIES_MAX, Tally, percentile
from cli.demo_traffic import Wish, users_for, wishes
from cli.demo_view import Rates
from models.operations import OPERATIONS
from models.topics import ADMITTED, COMPLETED, FAILED, REJECTED

WISH = Wish("ada", "maya.image", "a harbour", 1)


def completion(request_id: str, requested_at: str = "1970-01-01T00:00:01.000Z", images: int = 1) -> dict[str, object]:
    return {"request_id": request_id, "requested_at": requested_at, "images": [{}] * images}


@pytest.mark.parametrize("requests", [1, 8, 40, 1000])
def test_a_run_keeps_every_user_below_half_of_every_limit(requests: int) -> None:
    users = users_for(requests, "run")
    asked = Counter((wish.user_id, wish.operation) for wish in itertools.islice(wishes(users, seed=1), requests))
    assert sum(asked.values()) == requests
    for (_, operation), count in asked.items():
        assert count <= OPERATIONS[operation].policy.limit / 2


def test_a_run_asks_for_single_pictures_and_sets() -> None:
    asked = list(itertools.islice(wishes(users_for(40, "run"), seed=1), 40))
    assert {wish.operation for wish in asked} == {"maya.image", "studio.images"}
    assert len({wish.user_id for wish in asked if wish.operation == "studio.images"}) > 1
    assert asked == list(itertools.islice(wishes(users_for(40, "run"), seed=1), 40))


def test_each_request_is_counted_once_however_often_its_events_come() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    tally = Tally()
    for request_id in ("a", "b", "c"):
        tally.ask(request_id, WISH)
    problem = {"reason": "expired", "message": "The picture took too long."}
    events = [
        (ADMITTED, {"request_id": "a"}), (ADMITTED, {"request_id": "b"}),
        (COMPLETED, completion("a", images=4)), (FAILED, {"request_id": "b", **problem}),
        (REJECTED, {"request_id": "c", **problem}), (COMPLETED, completion("somebody-else")),
    ]  # fmt: skip
    for topic, body in events:
        for _ in range(chance.randint(1, 3)):
            tally.see(topic, body, at_ms=1_500)
    summary = tally.summary(seconds=2.0, violations=0)
    assert {name: summary[name] for name in ("requested", "admitted", "rejected", "completed", "failed", "images")} == {
        "requested": 3, "admitted": 2, "rejected": 1, "completed": 1, "failed": 1, "images": 4,
    }  # fmt: skip
    assert (summary["p50_ms"], tally.in_flight) == (500, 0)
    assert len(tally.problems) == 2


def test_what_a_tally_keeps_is_bounded() -> None:
    tally = Tally()
    for number in range(LATENCIES_MAX + 10):
        tally.ask(str(number), WISH)
        tally.see(COMPLETED, completion(str(number)), at_ms=2_000)
    assert len(tally.latencies_ms) == LATENCIES_MAX
    assert tally.counts["completed"] == LATENCIES_MAX + 10
    assert tally.in_flight == 0


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [([], 0, 0), ([7], 7, 7), ([1, 2], 1, 2), (range(1, 101), 50, 99), (range(1, 201), 100, 198)],
)
def test_percentiles_are_by_nearest_rank(values: list[int], p50: int, p99: int) -> None:
    assert (percentile(values, 50), percentile(values, 99)) == (p50, p99)


def test_rates_are_over_the_last_ten_seconds() -> None:
    rates = Rates()
    assert rates.update({}, 0.0)["completed"] == 0.0
    for second in range(1, 31):
        rate = rates.update({"completed": second * 2 if second <= 20 else 40}, float(second))
    assert rate["completed"] == 0.0
    assert rates.update({"completed": 50}, 31.0)["completed"] == pytest.approx(1.0, abs=0.2)
