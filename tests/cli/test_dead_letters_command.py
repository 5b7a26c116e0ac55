"""`darkroom dead-letters` on real servers: what is listed, and where a redriven letter ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from adapters.audit import audit
from models.outputs import LETTER_BYTES_MAX, dead_letter
from models.topics import ADMITTED, CANCEL_REQUESTED, CREDITS, DEAD_LETTERS, FAILED, GRANTED, PREDICTIONS, REQUESTED
from models.topics import STORED as IMAGES_STORED
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import apply_topics
from tests.faults.harness import World, environment_of, event_ids, request
from tests.support.waiting import eventually
from tests.unit.records import FakeRecord

TIMEOUT_S = 60.0


@pytest.fixture
async def world(settings: Settings, tmp_path: Path) -> AsyncIterator[World]:
    await apply_topics(settings)
    made = World(settings, tmp_path)
    try:
        yield made
    finally:
        await made.close()


async def command(world: World, *arguments: str, **extra: str) -> tuple[int, str, str]:
    """Run `darkroom dead-letters …` as a process of its own: exit code, output, errors."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli.main", "dead-letters", *arguments],
        env=environment_of(world.settings, **extra),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


async def listed(world: World, *arguments: str) -> list[dict[str, Any]]:
    code, output, errors = await command(world, "list", "--json", *arguments)
    assert code == 0, errors
    return list(json.loads(output)["letters"])


async def redrive(world: World, *arguments: str) -> list[dict[str, Any]]:
    code, output, errors = await command(world, "redrive", "--json", *arguments)
    assert code == 0, errors
    return list(json.loads(output))


async def until_letters(world: World, count: int) -> None:
    async def buried() -> bool:
        return len(await world.read(DEAD_LETTERS)) == count

    await eventually(buried, 60, f"{count} dead letters; {world.tails()}")


async def bury(world: World, *records: FakeRecord, reason: str = "bad_json", error: str = "no") -> list[str]:
    """Letters as a step would write them, without a step; their ids."""
    publisher = Publisher(world.settings.require("kafka"), client_id="test", topic_prefix=world.settings.topic_prefix)
    ids = []
    try:
        for record in records:
            record.topic = world.settings.topic_prefix + record.topic
            output = dead_letter(record, reason, error)
            await publisher.publish(record.partition, [output])
            ids.append(f"{record.topic}/{record.partition}/{record.offset}")
    finally:
        await publisher.close()
    return ids


async def assert_clean_books(world: World) -> None:
    findings = await audit(world.settings.require("postgres"))
    assert findings.violations == 0, findings.examples


def cancel(request_id: str, user_id: str) -> tuple[str, bytes]:
    return user_id, json.dumps({"request_id": request_id, "user_id": user_id}).encode()


def states(letters: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    return sorted((letter["state"], letter["attempts"]) for letter in letters)


async def test_a_request_that_stays_unreadable_comes_back_and_its_loop_is_noticed(world: World) -> None:
    await world.start().ready()
    await world.produce(REQUESTED, [("u", b'{"request_id": "r')])
    await until_letters(world, 1)
    for attempt in (1, 2, 3):
        (letter,) = await listed(world)
        assert (letter["reason"], letter["attempts"]) == ("bad_json", attempt - 1)
        (outcome,) = await redrive(world, letter["letter_id"])
        assert (outcome["outcome"], outcome["action"]["attempt"]) == ("redriven", attempt)
        await until_letters(world, attempt + 1)
    everything = await listed(world, "--all")
    assert states(everything) == [("open", 3), ("redriven", 3), ("redriven", 3), ("redriven", 3)]
    assert len({letter["root_id"] for letter in everything}) == 1
    (letter,) = await listed(world)
    code, output, errors = await command(world, "redrive", letter["letter_id"])
    assert (code, errors.count("\n")) == (1, 1)
    assert "came back from each of 3 redrives" in errors
    assert "0 of 1 redriven" in output
    (outcome,) = await redrive(world, "--reason", "bad_json")
    assert outcome["outcome"] == "left_alone"
    assert len(await world.read(DEAD_LETTERS)) == 4
    (outcome,) = await redrive(world, "--force", letter["letter_id"])
    assert outcome["action"]["attempt"] == 4
    await until_letters(world, 5)
    # The content and the key are the producer's, byte for byte, however often it went round.
    assert {(record.key, record.value) for record in await world.read(DEAD_LETTERS)} == {(b"u", b'{"request_id": "r')}
    await assert_clean_books(world)


async def test_a_cancel_that_overtook_its_admission_ends_the_request_when_redriven(world: World) -> None:
    await world.open_accounts(["u"], 10)
    await world.start("fulfilment", REPLICATE_BASE_URL="http://127.0.0.1:9").ready()
    await world.produce(CANCEL_REQUESTED, [cancel("r", "u")])
    await until_letters(world, 1)
    (letter,) = await listed(world, "--reason", "unknown_request")
    await world.workers[-1].terminate()
    await world.start().ready()
    await world.produce(REQUESTED, [request("r", "u")])
    await world.until_acked("admission", REQUESTED)
    await redrive(world, letter["letter_id"], "--note", "the admission was late")
    await world.start("fulfilment", REPLICATE_BASE_URL="http://127.0.0.1:9").ready()

    async def failed() -> bool:
        return len(event_ids(await world.read(FAILED))) == 1

    await eventually(failed, 60, f"the request was cancelled; {world.tails()}")
    assert await world.fetch("SELECT balance FROM accounts") == [(10,)]
    assert await listed(world) == []
    assert states(await listed(world, "--all")) == [("redriven", 1)]
    await assert_clean_books(world)


async def test_a_request_whose_cause_was_mended_is_charged_once_however_often_it_is_redriven(world: World) -> None:
    await world.open_accounts(["u"], 10)
    async with world.database() as held:
        await held.execute("ALTER TABLE generations ADD CONSTRAINT curse CHECK (prompt <> 'cursed')")
    await world.start().ready()
    await world.produce(REQUESTED, [request("r", "u", prompt="cursed")])
    await until_letters(world, 1)
    async with world.database() as held:
        await held.execute("ALTER TABLE generations DROP CONSTRAINT curse")
    (letter,) = await listed(world, "--reason", "broken_decision")
    assert (await command(world, "redrive", letter["letter_id"]))[0] == 0
    await world.until_acked("admission", REQUESTED)
    code, _, errors = await command(world, "redrive", letter["letter_id"])
    assert code == 1
    assert "has not come back" in errors
    assert (await command(world, "redrive", "--force", letter["letter_id"]))[0] == 0
    await world.until_acked("admission", REQUESTED)
    assert await world.fetch("SELECT balance, version FROM accounts") == [(9, 2)]
    assert list(event_ids(await world.read(ADMITTED))) == ["u/r/admitted"]
    assert len(await world.read(DEAD_LETTERS)) == 1
    await assert_clean_books(world)


UNMENDED: list[tuple[str, str, bytes | None, str]] = [
    (REQUESTED, "u", b"\xff\xfe{}", "bad_utf8"),
    (REQUESTED, "u", b'{"request_id": "r', "bad_json"),
    (REQUESTED, "u", b'{"prompt": "hello"}', "no_ids"),
    (REQUESTED, "u", b"[1]", "not_an_object"),
    (REQUESTED, "u", None, "empty"),
    (GRANTED, "u", b'{"grant_id": "g", "user_id": "u", "amount": 0, "kind": "bonus"}', "bad_grant"),
    (GRANTED, "v", b'{"grant_id": "g", "user_id": "u", "amount": 1, "kind": "bonus"}', "wrong_key"),
    (GRANTED, "u", b'{"grant_id": "g-u", "user_id": "u", "amount": 1, "kind": "bonus"}', "grant_conflict"),
    (CANCEL_REQUESTED, "u", b'{"user_id": "u"}', "bad_cancel"),
    (CANCEL_REQUESTED, "u", b'{"user_id": "u", "request_id": "never"}', "unknown_request"),
    (PREDICTIONS, "u", b'{"user_id": "u"}', "bad_fact"),
    (PREDICTIONS, "u", b'{"user_id":"u","request_id":"never","status":"failed","source":"webhook"}', "unknown_request"),
    (IMAGES_STORED, "u", b'{"user_id": "u"}', "bad_fact"),
    (ADMITTED, "u", b'{"user_id": "u"}', "bad_event"),
]  # fmt: skip


async def test_every_reason_is_redriven_and_comes_back_as_the_same_letter_in_one_more_attempt(world: World) -> None:
    await world.open_accounts(["u"], 10)
    await world.start().ready()
    await world.start("fulfilment", REPLICATE_BASE_URL="http://127.0.0.1:9").ready()
    for topic, key, value, _ in UNMENDED:
        await world.produce(topic, [(key, value)])
    await until_letters(world, len(UNMENDED))
    expected = sorted((topic, reason) for topic, _, _, reason in UNMENDED)
    assert sorted((letter["topic"], letter["reason"]) for letter in await listed(world)) == expected
    code, output, errors = await command(world, "redrive", "--since", "1h", "--dry-run")
    assert (code, f"{len(UNMENDED)} of {len(UNMENDED)} would be redriven" in output) == (0, True), errors
    assert len(await world.read(DEAD_LETTERS)) == len(UNMENDED)
    assert {outcome["outcome"] for outcome in await redrive(world, "--since", "1h")} == {"redriven"}
    await until_letters(world, 2 * len(UNMENDED))
    again = await listed(world)
    assert sorted((letter["topic"], letter["reason"]) for letter in again) == expected
    assert {letter["attempts"] for letter in again} == {1}
    assert await world.fetch("SELECT balance FROM accounts WHERE user_id = 'u'") == [(10,)]
    await assert_clean_books(world)


async def test_what_cannot_be_redriven_whole_or_safely_is_refused_in_one_line(world: World) -> None:
    huge = FakeRecord(b"x" * (LETTER_BYTES_MAX + 1), offset=1)
    large = FakeRecord(b"x" * 1_000_001, offset=2)
    change = FakeRecord(b"{}", offset=3, topic=CREDITS)
    nothing = FakeRecord(None, None, offset=4)
    ids = await bury(world, huge, large, change, nothing)
    says = ["only a part of it is kept", "1000000 bytes", "takes no redriven records", "neither key nor value"]
    for letter_id, text in zip(ids, says, strict=True):
        code, _, errors = await command(world, "redrive", "--force", letter_id)
        assert (code, errors.count("\n")) == (1, 1)
        assert text in errors
    assert await world.fetch("SELECT FROM dead_letter_actions") == []
    assert (await command(world, "redrive", "--to-topic", DEAD_LETTERS, ids[1]))[0] == 1


async def test_letters_are_filtered_by_reason_topic_and_time_and_listed_in_order(world: World) -> None:
    moments = {"2026-01-31T08:00:00Z": 1_769_846_400_000, "2026-01-31T09:00:00Z": 1_769_850_000_000}
    first, second = moments.values()
    (one,) = await bury(world, FakeRecord(b"1", offset=1, timestamp=first))
    (two,) = await bury(world, FakeRecord(b"2", offset=2, timestamp=second), reason="no_ids")
    (three,) = await bury(world, FakeRecord(b"3", offset=3, timestamp=second + 1, topic=GRANTED))

    async def ids(*arguments: str) -> list[str]:
        return [letter["letter_id"] for letter in await listed(world, *arguments)]

    assert await ids() == [three, two, one]
    assert await ids("--oldest-first", "--limit", "2") == [one, two]
    assert await ids("--reason", "no_ids") == [two]
    assert await ids("--topic", GRANTED) == [three]
    assert await ids("--until", "2026-01-31T09:00:00Z") == [one]
    assert await ids("--since", "2026-01-31T10:00:00+01:00", "--topic", REQUESTED) == [two]
    code, output, _ = await command(world, "list")
    assert code == 0
    assert "3 letters: bad_json 2, no_ids 1" in output


async def test_a_dropped_letter_is_gone_from_the_list_and_not_from_the_topic(world: World) -> None:
    (letter_id, other) = await bury(world, FakeRecord(b"1", offset=1), FakeRecord(b"2", offset=2))
    assert (await command(world, "drop", letter_id))[0] == 2
    code, output, errors = await command(world, "drop", letter_id, "--note", "a test of a producer")
    assert (code, "1 of 1 dropped" in output) == (0, True), errors
    assert [letter["letter_id"] for letter in await listed(world)] == [other]
    assert len(await world.read(DEAD_LETTERS)) == 2
    code, _, errors = await command(world, "redrive", "--force", letter_id)
    assert (code, "it was dropped" in errors) == (1, True)
    code, output, _ = await command(world, "show", letter_id)
    assert "dropped" in output
    assert "a test of a producer" in output
    await assert_clean_books(world)


async def test_hostile_bytes_reach_a_terminal_only_in_escaped_form(world: World) -> None:
    hostile = "\x1b]0;owned\x07\u202e\x9b31m\r\nfoo\\"
    record = FakeRecord(
        f'{{"prompt": "{hostile}"}}'.encode(),
        key=hostile.encode(),
        headers=[("x" + hostile, hostile.encode()), ("y", b"\xff\x1b[2J")],
    )
    binary = FakeRecord(b"\xff\x00\x1b[2J" * 3, offset=1)
    ids = await bury(world, record, binary, error=f"no{hostile}")
    for arguments in (("list",), ("show", ids[0]), ("show", ids[1]), ("list", "--json"), ("show", ids[0], "--json")):
        code, output, errors = await command(world, *arguments)
        assert code == 0, errors
        lines = output.splitlines()
        assert all(line.isprintable() for line in lines), arguments
        assert "\r" not in output
    assert "ff 00 1b 5b 32 4a" in (await command(world, "show", ids[1]))[1]
    assert "\\x1b]0;owned\\x07\\u202e\\x9b31m\\r\\nfoo\\\\" in (await command(world, "show", ids[0]))[1]


async def test_what_a_producer_says_of_redrives_is_not_believed(world: World) -> None:
    (honest,) = await bury(world, FakeRecord(b"honest", offset=1))
    (outcome,) = await redrive(world, honest)
    mark = f"{outcome['action']['action_id']} attempt=9 first={honest}".encode()
    for header in (mark, b"redriven-0 attempt=99 first=x", b"\xff" * 100, b""):
        (liar,) = await bury(world, FakeRecord(b"liar", offset=2 + len(header), headers=[("dl_redrive", header)]))
        (letter,) = [letter for letter in await listed(world) if letter["letter_id"] == liar]
        assert (letter["attempts"], letter["root_id"]) == (0, liar)


@pytest.mark.parametrize("point", ["redrive:1", "redrive:2"])
async def test_a_redrive_that_is_killed_leaves_a_letter_that_is_redriven_once_more(world: World, point: str) -> None:
    await world.open_accounts(["u"], 10)
    key, value = request("r", "u")
    (letter_id,) = await bury(world, FakeRecord(value, key.encode(), offset=7), reason="broken_decision")
    assert (await command(world, "redrive", letter_id, DARKROOM_CRASH_AT=point))[0] == -9
    (letter,) = await listed(world)
    assert (letter["is_unsettled"], letter["attempts"]) == (True, 1)
    (outcome,) = await redrive(world, letter_id)
    assert outcome["action"]["attempt"] == 2
    await world.start().ready()
    await world.until_acked("admission", REQUESTED)
    assert len(await world.read(REQUESTED)) == (2 if point == "redrive:2" else 1)
    assert await world.fetch("SELECT balance, version FROM accounts") == [(9, 2)]
    assert await listed(world) == []
    await assert_clean_books(world)


async def test_a_letter_that_came_back_from_a_killed_redrive_says_that_it_was_published(world: World) -> None:
    await world.start().ready()
    await world.produce(REQUESTED, [("u", b"[1]")])
    await until_letters(world, 1)
    (first,) = await listed(world)
    assert (await command(world, "redrive", first["letter_id"], DARKROOM_CRASH_AT="redrive:2"))[0] == -9
    await until_letters(world, 2)
    (again,) = await listed(world)
    assert (again["root_id"], again["attempts"]) == (first["letter_id"], 1)
    assert again["letter_id"] != first["letter_id"]
    assert (await redrive(world, again["letter_id"]))[0]["action"]["attempt"] == 2
    await until_letters(world, 3)
    assert states(await listed(world, "--all")) == [("open", 2), ("redriven", 2), ("redriven", 2)]
    await assert_clean_books(world)


@pytest.mark.parametrize(("says", "code", "published"), [(b"n\n", 130, 0), (b"y\n", 0, 2)])
async def test_a_person_is_asked_before_many_letters_are_redriven(
    world: World, says: bytes, code: int, published: int
) -> None:
    await bury(world, FakeRecord(b"1", offset=1), FakeRecord(b"2", offset=2))
    ours, theirs = pty.openpty()
    try:
        os.write(ours, says)
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "cli.main", "dead-letters", "redrive", "--reason", "bad_json"],
            env=environment_of(world.settings),
            stdin=theirs,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert b"redrive 2 letters?" in done.stderr
    assert len(await world.read(REQUESTED)) == published


async def test_copies_that_a_crash_has_left_are_one_letter(world: World) -> None:
    for _ in range(2):
        (letter_id,) = await bury(world, FakeRecord(b"twice", offset=3))
    assert [letter["letter_id"] for letter in await listed(world)] == [letter_id]
    assert len(await redrive(world, letter_id)) == 1
    assert len(await world.read(REQUESTED)) == 1


async def test_a_record_that_no_step_has_written_is_listed_and_left_alone(world: World) -> None:
    await world.produce(DEAD_LETTERS, [("u", b"what is this"), (None, b"")])
    letters = await listed(world)
    assert {letter["reason"] for letter in letters} == {"foreign"}
    code, _, errors = await command(world, "redrive", "--force", letters[0]["letter_id"])
    assert (code, "was not written by Darkroom" in errors) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("redrive",), 2, "name letters by their ids, or choose them by"),
        (("redrive", "x", "--reason", "bad_json"), 2, "name letters by their ids, or choose them by"),
        (("list", "--since", "yesterday"), 2, "'yesterday' is no moment"),
        (("list", "--topic", "nope"), 2, "there is no topic nope"),
        (("list", "--limit", "0"), 2, "limit"),
        (("drop", "x"), 2, "say why with --note"),
        (("show", "nope/0/1"), 1, "there is no dead letter 'nope/0/1'"),
        (("redrive", "nope/0/1"), 1, "there is no such letter"),
        (("drop", "nope/0/1", "--note", "why"), 1, "there is no such letter"),
    ],
)
async def test_wrong_use_and_unknown_letters_are_told_in_one_line(
    world: World, arguments: tuple[str, ...], code: int, says: str
) -> None:
    found, _, errors = await command(world, *arguments)
    assert (found, errors.count("\n")) == (code, 1), errors
    assert says in errors
