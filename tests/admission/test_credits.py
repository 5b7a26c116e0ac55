"""Credits through Kafka: grants, charges and refunds, each once, from several roles at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from models.topics import ADMITTED, CREDITS, DEAD_LETTERS, FAILED, GRANTED, PREDICTIONS, REQUESTED
from tests.admission.scene import answers, ask, assert_clean, fund, outcomes, requests
from tests.faults.harness import World, event_ids, request
from tests.support.waiting import eventually


def grant(grant_id: str, user_id: str, amount: int, kind: str = "purchase") -> tuple[str, bytes]:
    body = {"grant_id": grant_id, "user_id": user_id, "amount": amount, "kind": kind}
    return user_id, json.dumps(body).encode()


async def balances(world: World) -> dict[str, tuple[int, int]]:
    rows = await world.fetch("SELECT user_id, balance, version FROM accounts")
    return {row["user_id"]: (row["balance"], row["version"]) for row in rows}


async def assert_events_agree(world: World) -> None:
    """Every ledger entry has its event, versions have no gaps, and each user's last event is the account."""
    events = event_ids(await world.read(CREDITS))
    entries = await world.fetch("SELECT user_id, version, balance_after, kind, reference_id, amount FROM ledger")
    for entry in entries:
        event = events[f"{entry['user_id']}/credits/{entry['version']}"]
        assert (event["balance"], event["version"]) == (entry["balance_after"], entry["version"])
        assert event["cause"] == {name: entry[name] for name in ("kind", "reference_id", "amount")}
    assert len(events) == len(entries)
    last: dict[str, dict[str, Any]] = {}
    for event in events.values():
        if event["version"] > last.get(event["user_id"], {"version": 0})["version"]:
            last[event["user_id"]] = event
    held = await balances(world)
    assert {user: (event["balance"], event["version"]) for user, event in last.items()} == held


async def test_each_grant_is_booked_once_and_a_changed_one_goes_to_the_dead_letters(world: World) -> None:
    await world.start().ready()
    kinds = ("purchase", "subscription_grant", "bonus")
    rows = [grant(f"g-{kind}", "u", 10, kind) for kind in kinds]
    changed = [
        grant("g-bonus", "u", 11, "bonus"),
        grant("g-bonus", "u", 10, "purchase"),
        grant("g-bonus", "v", 10, "bonus"),
    ]
    await world.produce(GRANTED, [*rows, *rows])
    await world.until_acked("admission", GRANTED)
    await world.produce(GRANTED, [*changed, *rows])
    await world.until_acked("admission", GRANTED)
    assert await balances(world) == {"u": (30, 3), "v": (0, 0)}
    letters = await world.read(DEAD_LETTERS)
    assert [dict(letter.headers)["dl_reason"] for letter in letters] == [b"grant_conflict"] * 3
    assert {letter.value for letter in letters} == {value for _, value in changed}
    bad = [grant("a", "u", 0), grant("b", "u", 1_000_001), grant("c", "u", 5, "gift"), grant("d e", "u", 5)]
    await world.produce(GRANTED, bad)
    await world.until_acked("admission", GRANTED)
    assert len(await world.read(DEAD_LETTERS)) == 3 + len(bad)
    assert (await balances(world))["u"] == (30, 3)


async def test_a_grant_id_used_for_two_users_at_once_is_booked_for_one_of_them(world: World) -> None:
    """Their partitions are decided side by side: the second to commit finds the first one's entry."""
    await world.start().ready()
    users = [f"u{number}" for number in range(8)]
    for round_ in range(10):
        await world.produce(GRANTED, [grant(f"g{round_}", user, 10) for user in users])
    await world.until_acked("admission", GRANTED)
    assert sum(balance for balance, _ in (await balances(world)).values()) == 10 * 10
    letters = await world.read(DEAD_LETTERS)
    assert [dict(letter.headers)["dl_reason"] for letter in letters] == [b"grant_conflict"] * 10 * 7
    await assert_clean(world)


async def test_an_unlimited_user_is_limited_and_not_charged(world: World) -> None:
    await fund(world, ["u"], 1)
    async with world.database() as held:
        await held.execute("UPDATE accounts SET unlimited = true")
    await world.start().ready()
    found = await ask(world, *requests("u", 31))
    assert outcomes(found) == ["admitted"] * 30 + ["rate_limited"]
    assert {answer["cost"] for answer in found[:30]} == {0}
    assert await balances(world) == {"u": (1, 1)}
    await assert_clean(world)


async def test_charges_grants_and_refunds_of_the_same_users_at_once_add_up(world: World) -> None:
    """Admission charges and books grants while fulfilment refunds what failed; each sends everything twice."""
    users = [f"u{number}" for number in range(5)]
    extra = {"REPLICATE_BASE_URL": "http://127.0.0.1:1", "DARKROOM_PROVIDER_PER_MINUTE": "1"}
    await world.start().ready()
    await world.start("fulfilment", **extra).ready()
    await world.produce(GRANTED, [grant(f"first-{user}", user, 40) for user in users])
    await world.until_acked("admission", GRANTED)
    for wave in range(6):
        rows = [request(f"{wave}-{number}", user) for user in users for number in range(4)]
        await world.produce(REQUESTED, [*rows, *rows])
        await world.produce(GRANTED, [grant(f"{wave}-{user}", user, 3) for user in users] * 2)
        facts = failures(await admitted_so_far(world))
        await world.produce(PREDICTIONS, facts * 2)

    async def all_are_decided() -> bool:
        return len({(found["user_id"], found["request_id"]) for found in await answers(world)}) == 6 * 4 * len(users)

    await eventually(all_are_decided, 30, f"not all were decided; {world.tails()}")
    admitted = await admitted_so_far(world)
    await world.produce(PREDICTIONS, failures(admitted))
    await world.until_acked("fulfilment", PREDICTIONS, 60)
    await world.until_acked("admission", REQUESTED)
    await world.until_acked("admission", GRANTED)
    assert len(admitted) == 6 * 4 * len(users)
    assert await balances(world) == dict.fromkeys(users, (40 + 6 * 3, 1 + 6 + 2 * 6 * 4))
    assert len(event_ids(await world.read(FAILED))) == len(admitted)
    await assert_events_agree(world)
    await assert_clean(world)


async def admitted_so_far(world: World) -> set[tuple[str, str]]:
    return {(body["user_id"], body["request_id"]) for body in event_ids(await world.read(ADMITTED)).values()}


def failures(identities: Iterable[tuple[str, str]]) -> list[tuple[str, bytes]]:
    return [
        (user_id, json.dumps({
            "request_id": request_id, "user_id": user_id, "status": "failed", "source": "webhook",
            "prediction_id": f"p-{user_id}-{request_id}", "prediction": {},
        }).encode())
        for user_id, request_id in identities
    ]  # fmt: skip
