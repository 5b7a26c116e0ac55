"""The audit of events: real traffic has no violation, and every way of being wrong is caught by its name."""

from __future__ import annotations

import json

from models.event_audit import EVENT_INVARIANTS
from models.topics import ADMITTED, COMPLETED, CREDITS, DEAD_LETTERS, REQUESTED
from streams.event_audit import audit_events
from tests.admission.scene import ask, fund, requests
from tests.faults.harness import World


async def violations(world: World) -> dict[str, int]:
    found = await audit_events(world.settings, grace_s=0.5)
    assert found.counts.keys() == EVENT_INVARIANTS.keys()
    assert found.examples.keys() == {name for name, count in found.counts.items() if count}
    return {name: count for name, count in found.counts.items() if count}


async def test_each_way_of_being_wrong_is_caught_by_its_name(world: World) -> None:
    await fund(world, ["u", "v"], 10)
    await world.start().ready()
    await ask(world, *requests("u", 3), *requests("v", 2))
    await world.until_acked("admission", "generations.requested.v1")
    assert await violations(world) == {}

    async def after(statement: str, undo: str) -> dict[str, int]:
        async with world.database() as held:
            await held.execute(statement)
            found = await violations(world)
            await held.execute(undo)
        return found

    raise_cost = "UPDATE generations SET cost = cost {} 1 WHERE request_id = 'u-1'"
    assert await after(raise_cost.format("+"), raise_cost.format("-")) == {"admissions_are_announced": 1}
    end = "UPDATE generations SET state = '{}' WHERE request_id = 'u-1'"
    assert await after(end.format("failed"), end.format("admitted")) == {"ends_are_announced": 1}
    assert await after(end.format("completed"), end.format("admitted")) == {"ends_are_announced": 1}
    pay = "UPDATE accounts SET balance = balance {} 1 WHERE user_id = 'v'"
    assert await after(pay.format("+"), pay.format("-")) == {"balances_are_announced": 1}
    new = "INSERT INTO accounts (user_id, balance, version) VALUES ('w', 1, 1)"
    assert await after(new, "DELETE FROM accounts WHERE user_id = 'w'") == {"balances_are_announced": 1}
    move = "UPDATE generations SET user_id = '{}' WHERE request_id = 'u-2'"
    found = await after(move.format("u-moved"), move.format("u"))
    assert found == {"admissions_are_announced": 1, "no_event_without_row": 1}
    assert await violations(world) == {}

    (first, *_) = await world.read(ADMITTED)
    ghost = json.loads(first.value) | {"request_id": "ghost", "cost": 1}
    await world.produce(ADMITTED, [("u", json.dumps(ghost).encode()), ("u", json.dumps(ghost | {"cost": 2}).encode())])
    # Without an id of their own the two are copies of one event, and they differ.
    assert await violations(world) == {"no_event_without_row": 1, "copies_are_equal": 1}
    done = {"request_id": "u-1", "user_id": "u", "refunded": 0}
    await world.produce(COMPLETED, [("u", json.dumps(done).encode())])
    assert (await violations(world))["no_event_without_row"] == 2
    await world.produce(CREDITS, [("v", b"{broken")])
    assert (await violations(world))["events_can_be_read"] == 1


async def test_letters_are_held_against_how_far_streams_are_and_against_what_was_done(world: World) -> None:
    await world.start().ready()
    await world.produce(REQUESTED, [("u", b"[1]"), ("v", b"[2]")])
    await world.until_acked("admission", REQUESTED)
    assert await violations(world) == {}
    (letter, _) = await world.read(DEAD_LETTERS)
    letter_id = dict(letter.headers)["dl_id"].decode()
    new = (
        "INSERT INTO dead_letter_actions (action_id, letter_id, root_id, kind, attempt, reason, content, acted_by)"
        " VALUES ($1, $2, $2, 'dropped', 0, 'bad_json', 'c', 'me')"
    )
    async with world.database() as held:
        await held.execute(new, "one", letter_id)
        assert await violations(world) == {}
        await held.execute(new, "two", "elsewhere/0/1")
        assert await violations(world) == {"actions_have_their_letter": 1}
        await held.execute("DELETE FROM dead_letter_actions")
        await world.workers[-1].terminate()
        await held.execute("UPDATE stream_progress SET prev_offset = 0, next_offset = 0 WHERE stream = 'admit'")
        assert (await violations(world))["letters_are_of_handled_records"] in (1, 2)
