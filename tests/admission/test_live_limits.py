"""Limits that are changed while a worker runs."""

from __future__ import annotations

import json

from models.operations import Mode
from models.topics import LIMITS, REQUESTED
from streams.limit_levers import change_limits, count_refusals, read_policies
from tests.admission.scene import ask, assert_clean, fund, metric, outcomes, requests
from tests.faults.harness import World, request
from tests.support.waiting import eventually

MAYA = "maya.image"


async def changed(world: World, **change: object) -> int:
    """Change maya.image; the broker time of the change."""
    await change_limits(world.settings, MAYA, change)
    return int((await world.read(LIMITS))[-1].timestamp)


async def test_a_change_holds_within_a_second_and_after_a_restart(world: World) -> None:
    users = [f"u{number}" for number in range(40)]
    await fund(world, users, 10)
    worker = await world.start().ready()
    assert outcomes(await ask(world, *requests("u39", 3))) == ["admitted"] * 3
    changed_ms = await changed(world, limit=2)
    limited_ms = None
    for user in users[:30]:
        found = await ask(world, *requests(user, 3))
        if "rate_limited" in outcomes(found):
            limited_ms = max(answer["at_ms"] for answer in found)
            assert [answer["limit"] for answer in found if "limit" in answer] == [2]
            break
    assert limited_ms is not None
    assert limited_ms - changed_ms < 1000
    assert await worker.terminate() == 0
    await world.start().ready()
    assert outcomes(await ask(world, *requests("u38", 3))) == ["admitted", "admitted", "rate_limited"]
    await assert_clean(world)


async def test_a_window_that_grows_counts_what_was_admitted_before_it_grew(world: World) -> None:
    await fund(world, ["u"], 10)
    await changed(world, limit=2, window_s=1)
    await world.start().ready()
    assert outcomes(await ask(world, *requests("u", 2))) == ["admitted", "admitted"]

    async def one_more_is_admitted() -> bool:
        start = await world.end(REQUESTED)
        return outcomes(await ask(world, *requests("u", 1, start)))[-1] == "admitted"

    await eventually(one_more_is_admitted, 10, "the short window did not free")
    await changed(world, limit=3, window_s=3600)

    async def the_long_window_is_full() -> bool:
        start = await world.end(REQUESTED)
        (answer,) = await ask(world, *requests("u", 1, start))
        return answer.get("window_s") == 3600 and answer["remaining"] == 0

    await eventually(the_long_window_is_full, 10, "the older admissions were not counted")
    await assert_clean(world)


async def test_shadow_mode_refuses_nobody_and_counts_whom_it_would_have_refused(world: World) -> None:
    await fund(world, ["u"], 10)
    await changed(world, limit=2, mode=Mode.SHADOW)
    worker = await world.start().ready()
    assert outcomes(await ask(world, *requests("u", 5))) == ["admitted"] * 5
    assert metric(worker, "darkroom_limit_shadow_hits_total", policy=MAYA) == 3
    await assert_clean(world)


async def test_the_cap_counts_unfinished_requests_also_after_a_restart(world: World) -> None:
    await fund(world, ["u"], 10)
    await changed(world, max_in_flight=2)
    worker = await world.start().ready()
    found = await ask(world, *requests("u", 3))
    assert outcomes(found) == ["admitted", "admitted", "rate_limited"]
    assert (found[2]["max_in_flight"], found[2]["policy"], found[2]["limit"], found[2]["remaining"]) == (
        2,
        MAYA,
        30,
        28,
    )
    assert metric(worker, "darkroom_limit_hits_total", policy=MAYA, rule="max_in_flight") == 1
    async with world.database() as held:
        await held.execute("UPDATE generations SET state = 'failed', finished_at = now() WHERE request_id = 'u-0'")
    assert outcomes(await ask(world, *requests("u", 2, start=10))) == ["admitted", "rate_limited"]
    worker.kill()
    await world.start().ready()
    assert outcomes(await ask(world, *requests("u", 1, start=20))) == ["rate_limited"]
    other = request("other", "u", operation="feed.post")
    assert outcomes(await ask(world, other)) == ["admitted"]


async def test_a_bad_change_is_counted_and_changes_nothing(world: World) -> None:
    await fund(world, ["u"], 100)
    worker = await world.start().ready()
    bad = {"policy": MAYA, "limit": -1, "window_s": 60}
    await world.produce(LIMITS, [(MAYA, json.dumps(bad).encode()), ("no.policy", b"{}"), (MAYA, b"\xff")])

    async def are_counted() -> bool:
        return metric(worker, "darkroom_limit_changes_total", outcome="refused") == 3

    await eventually(are_counted, 10, "the bad changes were not counted")
    assert outcomes(await ask(world, *requests("u", 31))) == ["admitted"] * 30 + ["rate_limited"]
    assert (await read_policies(world.settings))[MAYA].limit == 30


async def test_whoever_hits_a_limit_most_is_found(world: World) -> None:
    await fund(world, ["loud", "quiet"], 100)
    await world.start().ready()
    await ask(world, *requests("quiet", 31), *requests("loud", 36))
    found, is_complete = await count_refusals(world.settings, 0, timeout_s=20)
    assert is_complete
    assert found.most_common() == [(("loud", MAYA), 6), (("quiet", MAYA), 1)]
