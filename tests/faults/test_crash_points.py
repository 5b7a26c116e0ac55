"""A worker killed at each numbered point of the step: after a restart nothing is missing and nothing is doubled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.topics import ADMITTED, CREDITS, GRANTED, REQUESTED
from streams import delivery
from tests.faults.harness import World, admission_violations, event_ids, request

USERS = [f"user-{number}" for number in range(8)]


def numbered_points() -> list[int]:
    """The crash points that the step's code has, so that a new one without a test fails here."""
    source = Path(delivery.__file__).read_text()
    return sorted(int(number) for number in re.findall(r"crash_point\([\w.]+, (\d+)\)", source))


def test_the_step_has_the_points_that_are_tested() -> None:
    assert numbered_points() == [1, 2, 3, 4]


def traffic(prefix: str) -> list[tuple[str, bytes]]:
    """40 requests a user (30 fit the window), with repeats, a conflict and poison in between."""
    rows: list[tuple[str, bytes]] = []
    for number in range(40):
        rows += [request(f"{prefix}-{number}", user) for user in USERS]
        if number % 10 == 5:
            rows += [request(f"{prefix}-{number - 1}", user) for user in USERS]
            rows += [request(f"{prefix}-{number - 2}", USERS[0], prompt="something else"), (USERS[1], b"{broken")]
    return rows


@pytest.mark.parametrize("point", numbered_points())
@pytest.mark.parametrize("occurrence", [1, 3])
async def test_a_kill_at_this_point_of_admission_loses_and_doubles_nothing(
    world: World, point: int, occurrence: int
) -> None:
    await world.open_accounts(USERS, 35)
    doomed = world.start(DARKROOM_CRASH_AT=f"admit:{point}:{occurrence}", DARKROOM_STEP_RECORDS_MAX="40")
    await doomed.ready()
    await world.produce(REQUESTED, traffic("a"))
    assert await doomed.ended() == -9, doomed.output()

    await world.start(DARKROOM_STEP_RECORDS_MAX="40").ready()
    await world.until_handled("admit", REQUESTED)
    await world.produce(REQUESTED, traffic("b"))
    await world.until_handled("admit", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert await admission_violations(world, opening_balance=35) == []


async def test_after_a_crash_between_commit_and_publish_outputs_come_from_the_stored_decisions(world: World) -> None:
    await world.open_accounts(["u"], 100)
    doomed = await world.start(DARKROOM_CRASH_AT="admit:3").ready()
    await world.produce(REQUESTED, [request(f"r{number}", "u") for number in range(31)])
    await doomed.ended()
    assert await world.read(ADMITTED) == []
    stored = await world.fetch("SELECT request_id, balance, version FROM generations ORDER BY version")
    assert len(stored) > 0

    # What would be decided differently now must not matter: the decisions stand.
    await world.fetch("UPDATE accounts SET unlimited = true RETURNING 1")
    await world.start().ready()
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    admitted = event_ids(await world.read(ADMITTED))
    for row in stored:
        event = admitted[f"u/{row['request_id']}/admitted"]
        assert (event["cost"], event["balance"], event["version"]) == (1, row["balance"], row["version"])


async def test_a_window_that_was_full_before_the_kill_is_full_after_it(world: World) -> None:
    await world.open_accounts(["u"], 100)
    worker = await world.start().ready()
    await world.produce(REQUESTED, [request(f"r{number}", "u") for number in range(30)])
    await world.until_handled("admit", REQUESTED)
    worker.kill()
    await world.start().ready()
    await world.produce(REQUESTED, [request(f"late{number}", "u") for number in range(5)])
    await world.until_handled("admit", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert await world.fetch("SELECT count(*) FROM generations") == [(30,)]
    assert await admission_violations(world, opening_balance=100) == []


@pytest.mark.parametrize("point", numbered_points())
async def test_a_kill_at_this_point_of_granting_books_each_grant_once(world: World, point: int) -> None:
    doomed = await world.start(DARKROOM_CRASH_AT=f"grants:{point}").ready()
    await world.grant(USERS, 10)
    assert await doomed.ended() == -9
    await world.start().ready()
    await world.grant(USERS, 10)
    await world.until_handled("grants", GRANTED)
    assert await world.workers[-1].terminate() == 0
    balances = await world.fetch("SELECT DISTINCT balance, version FROM accounts")
    assert [tuple(row) for row in balances] == [(10, 1)]
    assert len(event_ids(await world.read(CREDITS))) == len(USERS)
