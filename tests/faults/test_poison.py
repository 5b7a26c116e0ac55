"""Records that cannot be handled: to the dead letters with reason and coordinates, and their neighbours go on."""

from __future__ import annotations

import pytest

from models import topics
from models.topics import ADMITTED, DEAD_LETTERS, GRANTED, PREDICTIONS, REJECTED, REQUESTED, STORED
from tests.faults.harness import World, admission_violations, event_ids, request
from tests.support.waiting import eventually

POISON = {
    b"\xff\xfe{}": "bad_utf8",
    b'{"request_id": "r': "bad_json",
    b'{"prompt": "hello"}': "no_ids",
    b"[1]": "not_an_object",
}


async def test_poison_requests_become_dead_letters_and_their_neighbours_are_admitted(world: World) -> None:
    await world.open_accounts(["u"], 100)
    await world.start().ready()
    rows: list[tuple[str | None, bytes | None]] = [request("before", "u")]
    rows += [("u", value) for value in POISON]
    rows += [("u", None), request("after", "u"), (None, request("no-key", "u")[1])]
    await world.produce(REQUESTED, rows)
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0

    assert sorted(event_ids(await world.read(ADMITTED))) == ["u/after/admitted", "u/before/admitted"]
    (rejected,) = event_ids(await world.read(REJECTED)).values()
    assert (rejected["request_id"], rejected["reason"], rejected["errors"][0]["field"]) == ("no-key", "invalid", "key")
    inputs = {(record.partition, record.offset): record for record in await world.read(REQUESTED)}
    letters = await world.read(DEAD_LETTERS)
    reasons = {}
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers}
        origin = inputs[int(headers["dl_partition"]), int(headers["dl_offset"])]
        assert letter.value == origin.value
        assert letter.key == origin.key
        assert headers["dl_topic"] == world.settings.topic_prefix + REQUESTED
        assert headers["dl_error"]
        assert headers["dl_at"].endswith("Z")
        reasons[letter.value] = headers["dl_reason"]
    assert reasons == POISON | {None: "empty"}


async def test_a_record_that_breaks_its_decision_is_found_and_buried_alone(world: World) -> None:
    await world.open_accounts(["u"], 100)
    async with world.database() as held:
        await held.execute("ALTER TABLE generations ADD CHECK (prompt <> 'cursed')")
    await world.produce(
        REQUESTED,
        [request(f"r{number}", "u", prompt="cursed" if number == 13 else "fine") for number in range(25)],
    )
    await world.start().ready()
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert len(event_ids(await world.read(ADMITTED))) == 24
    (letter,) = await world.read(DEAD_LETTERS)
    assert dict(letter.headers)["dl_reason"] == b"broken_decision"
    assert await world.fetch("SELECT balance FROM accounts") == [(76,)]


async def test_an_error_that_no_record_causes_stops_the_worker_and_buries_nothing(world: World) -> None:
    await world.open_accounts(["u"], 100)
    async with world.database() as held:
        await held.execute("ALTER TABLE generations RENAME TO elsewhere")
    await world.produce(REQUESTED, [request("r", "u")])
    assert await world.start().ended() == 1
    assert await world.read(DEAD_LETTERS) == []
    assert await world.handled("admit") == 0


@pytest.mark.parametrize(
    ("role", "topic"),
    [
        ("admission", GRANTED),
        ("fulfilment", ADMITTED),
        ("fulfilment", PREDICTIONS),
        ("fulfilment", STORED),
        ("fulfilment", topics.CANCEL_REQUESTED),
        ("projections", topics.CREDITS),
    ],
)
async def test_every_agent_buries_what_it_cannot_read(world: World, role: str, topic: str) -> None:
    await world.start(role).ready()
    await world.produce(topic, [("u", b"\xff"), ("u", b"{}")])

    async def buried() -> bool:
        return len(await world.read(DEAD_LETTERS)) == 2

    await eventually(buried, 20, f"two dead letters; {world.tails()}")
    assert await world.workers[-1].terminate() == 0


async def test_an_unhurried_oracle_agrees_with_a_mixed_day(world: World) -> None:
    await world.open_accounts(["a", "b"], 20)
    await world.start().ready()
    rows = [request(f"r{number % 37}", "a" if number % 3 else "b") for number in range(120)]
    await world.produce(REQUESTED, rows)
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert await admission_violations(world, opening_balance=20) == []
