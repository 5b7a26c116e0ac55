"""The dispatcher: fair, paced, one run a request, and nothing dropped when the provider says later."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from models.errors import ProviderBusy
from services.dispatcher import PER_USER_MAX, Dispatcher
from services.runner import run_together

from .door import open_door
from .world import World, until


async def submitted(world: World) -> list[str]:
    """Users in the order in which their work was handed out."""
    rows = await world.pool.fetch(
        "SELECT user_id FROM generations WHERE submitted_at IS NOT NULL ORDER BY submitted_at, user_id"
    )
    return [row["user_id"] for row in rows]


async def test_a_queued_request_is_submitted_and_reported(world: World) -> None:
    await world.queue("u1", "r1")
    async with world.running(world.dispatcher()):
        await until(lambda: is_in(world, "running"), "the request runs")
    row = await world.row("u1", "r1")
    topic, fact, event_id = world.publisher.sent[0]
    assert topic == "predictions.updated.v1"
    assert (fact["status"], fact["source"], fact["prediction_id"]) == ("starting", "dispatcher", row["prediction_id"])
    assert event_id == f"u1/r1/prediction/{row['prediction_id']}/starting"
    assert (row["attempts"], row["lease_until"]) == (1, None)
    assert await world.runs_of("u1", "r1") == 1


async def test_a_user_with_much_waiting_delays_nobody_by_more_than_a_round(world: World) -> None:
    await world.queue("greedy", *(f"g{number}" for number in range(50)))
    await world.queue("modest", "m1")
    dispatcher = world.dispatcher(per_minute=600)
    assert await dispatcher.tick() == 1 + PER_USER_MAX
    await dispatcher.hands.drain(5.0)
    assert sorted(await submitted(world)) == ["greedy"] * PER_USER_MAX + ["modest"]


async def test_a_queue_of_five_hundred_delays_a_newcomer_by_one_round_at_most(world: World) -> None:
    await world.queue("greedy", *(f"g{number}" for number in range(500)), age_s=60)
    dispatcher = world.dispatcher(per_minute=60)  # one in a round
    for _ in range(3):
        await next_round(world, dispatcher)
    await world.queue("modest", "m1")
    await next_round(world, dispatcher)
    await next_round(world, dispatcher)
    await dispatcher.hands.drain(5.0)
    assert "modest" in (await submitted(world))[:4]


async def next_round(world: World, dispatcher: Dispatcher) -> None:
    """The next round that submits something, without waiting for the pace."""
    await world.pool.execute("UPDATE provider_pace SET next_at = now() - interval '1 s'")
    while await dispatcher.tick() == 0:
        await asyncio.sleep(0.01)


async def test_the_user_served_longest_ago_goes_first(world: World) -> None:
    for user_id in ("first", "second", "third"):
        await world.queue(user_id, f"{user_id}-1", f"{user_id}-2", age_s=9)
    await world.queue("fourth", "fourth-1")
    dispatcher = world.dispatcher(per_minute=60)
    for _ in range(7):
        await next_round(world, dispatcher)
    await dispatcher.hands.drain(5.0)
    served = await submitted(world)
    assert set(served[:4]) == {"first", "second", "third", "fourth"}
    assert served[4:] == [user_id for user_id in served[:4] if user_id != "fourth"]


async def test_workers_share_one_pace(world: World) -> None:
    await world.queue("u1", *(f"p{number}" for number in range(11)))
    began = time.monotonic()
    async with world.running(world.dispatcher(per_minute=300), world.dispatcher(per_minute=300)):

        async def all_submitted() -> bool:
            return len(await submitted(world)) == 11

        await until(all_submitted, "all are submitted")
    # Five at once, then one every 60 / 296 s.
    assert time.monotonic() - began >= 6 * 60 / 296 - 0.05
    assert (await world.counts())["paid_twice"] == {}


async def test_two_workers_never_submit_the_same_request(world: World) -> None:
    await world.queue("u1", *(f"t{number}" for number in range(20)))
    await world.queue("u2", *(f"t{number}" for number in range(20, 40)))
    async with world.running(*(world.dispatcher() for _ in range(3))):

        async def all_created() -> bool:
            return (await world.states()).get("running") == 40

        await until(all_created, "all run")
    requests = (await world.counts())["requests"]
    assert all(len(requests[f"u{1 + number // 20}/t{number}"]) == 1 for number in range(40))


async def test_a_throttled_request_waits_as_long_as_the_provider_wants(world: World) -> None:
    await world.queue("u1", "w1", prompt="a lake [[fault:rate_limited]]")
    async with world.running(world.dispatcher()):
        await until(lambda: is_in(world, "queued", attempts=1), "the request is handed back")
        await until(lambda: is_in(world, "running"), "it runs in the end")
    row = await world.row("u1", "w1")
    assert (row["attempts"], await world.runs_of("u1", "w1")) == (2, 1)
    assert (row["submitted_at"] - row["queued_at"]).total_seconds() >= 1.0
    assert world.publisher.statuses("w1") == [("starting", "dispatcher")]


async def test_when_the_account_is_throttled_everybody_waits(world: World) -> None:
    await world.queue("u1", "h1", "h2", "h3", prompt="a lake [[fault:rate_limited*2]]")
    dispatcher = world.dispatcher()
    assert await dispatcher.tick() == 3
    await dispatcher.hands.drain(5.0)
    await world.queue("u2", "h4")
    assert await dispatcher.tick() == 0
    async with world.running(dispatcher):
        await until(lambda: is_in(world, "running", "h4"), "the other user's request runs")
    row = await world.row("u2", "h4")
    assert (row["submitted_at"] - row["queued_at"]).total_seconds() >= 0.7


async def test_an_error_of_the_provider_s_is_tried_again_with_backoff_once_there_is_surely_no_run(world: World) -> None:
    await world.queue("u1", "b1", prompt="a lake [[fault:server_error]]")
    async with world.running(world.dispatcher(), world.reconciler()):
        await until(lambda: is_in(world, "running"), "it runs in the end")
    row = await world.row("u1", "b1")
    assert (row["attempts"], await world.runs_of("u1", "b1")) == (2, 1)
    assert (row["submitted_at"] - row["queued_at"]).total_seconds() >= 0.5


async def test_a_refused_request_fails_and_is_refunded(world: World) -> None:
    await world.queue("u1", "f1", prompt="a lake [[fault:refused*9]]")
    async with world.running(world.dispatcher()):
        await until(lambda: is_in(world, "failed"), "it fails")
    row = await world.row("u1", "f1")
    assert (row["reason"], row["refunded"], row["attempts"]) == ("provider_rejected", 1, 1)
    assert world.publisher.sent[0][1]["prediction"] == {"error": "422: The input was refused by the model"}


async def test_a_request_whose_answer_is_lost_is_left_alone(world: World) -> None:
    await world.queue("u1", "l1", prompt="a lake [[fault:lost_answer]]")
    dispatcher = world.dispatcher()
    await dispatcher.tick()
    await dispatcher.hands.drain(5.0)
    assert await dispatcher.tick() == 0
    row = await world.row("u1", "l1")
    assert (row["state"], row["prediction_id"]) == ("submitting", None)
    assert (await world.runs_of("u1", "l1"), world.publisher.sent) == (1, [])


async def test_a_run_of_a_request_that_ended_meanwhile_is_cancelled(world: World) -> None:
    await world.queue("u1", "c1", prompt="a lake [[fault:stuck]]")
    create = world.provider.create

    async def create_and_end(*given: Any) -> dict[str, Any]:
        body = await create(*given)
        await world.pool.execute("UPDATE generations SET state = 'cancelled'")
        return body

    world.provider.create = create_and_end  # type: ignore[method-assign, assignment]
    async with world.running(world.dispatcher()):

        async def is_cancelled_there() -> bool:
            runs = (await world.counts())["requests"].get("u1/c1", [])
            return bool(runs) and (await world.provider.get(runs[0]))["status"] == "canceled"

        await until(is_cancelled_there, "the run is cancelled at the provider")
    assert world.publisher.sent == []


async def test_a_second_run_is_cancelled_when_an_earlier_one_has_announced_itself(world: World) -> None:
    await world.queue("u1", "e1", prompt="a lake [[fault:stuck]]")
    create, second = world.provider.create, ""

    async def create_late(*given: Any) -> dict[str, Any]:
        nonlocal second
        body = await create(*given)
        second = body["id"]
        await world.pool.execute("UPDATE generations SET state = 'running', prediction_id = 'earlier'")
        return body

    world.provider.create = create_late  # type: ignore[method-assign, assignment]
    dispatcher = world.dispatcher()
    await dispatcher.tick()
    await dispatcher.hands.drain(5.0)
    assert (await world.provider.get(second))["status"] == "canceled"
    assert (await world.row("u1", "e1"))["prediction_id"] == "earlier"
    assert world.publisher.sent == []


async def test_a_run_that_has_ended_before_its_creation_was_answered_is_the_request_s(world: World) -> None:
    async with open_door(world.publisher) as world.webhook_base_url:
        await world.queue("u1", "f1")
        create = world.provider.create

        async def answer_late(*given: Any) -> dict[str, Any]:
            body = await create(*given)
            await until(lambda: is_in(world, "storing"), "the webhooks have adopted and ended the run")
            return body

        world.provider.create = answer_late  # type: ignore[method-assign, assignment]
        dispatcher = world.dispatcher()
        await dispatcher.tick()
        await dispatcher.hands.drain(5.0)
    row = await world.row("u1", "f1")
    assert (await world.counts())["requests"] == {"u1/f1": [row["prediction_id"]]}
    assert (await world.provider.get(row["prediction_id"]))["status"] == "succeeded"
    assert (row["state"], row["lease_until"]) == ("storing", None)


async def test_a_run_of_a_request_that_was_handed_back_is_adopted_and_not_repeated(world: World) -> None:
    async with open_door(world.publisher) as world.webhook_base_url:
        await world.queue("u1", "a1", prompt="a lake [[fault:lost_answer]]")
        dispatcher = world.dispatcher()
        create = world.provider.create

        async def hand_back_too_early(*given: Any) -> dict[str, Any]:
            await world.pool.execute("UPDATE generations SET state = 'queued', due_at = now() + interval '1 s'")
            return await create(*given)

        world.provider.create = hand_back_too_early  # type: ignore[method-assign, assignment]
        async with world.running(dispatcher):
            await until(lambda: is_in(world, "storing"), "its webhooks have adopted the run")
    assert await world.runs_of("u1", "a1") == 1


async def test_while_kafka_is_away_the_run_is_known_and_nothing_is_lost(world: World) -> None:
    await world.queue("u1", "k1")
    world.publisher.is_away = True
    async with world.running(world.dispatcher(), world.reconciler()):

        async def has_run() -> bool:
            return (await world.row("u1", "k1"))["prediction_id"] is not None

        await until(has_run, "the run is written down")
        world.publisher.is_away = False
        await until(lambda: is_in(world, "storing"), "the run's success arrives")
    assert await world.runs_of("u1", "k1") == 1


async def test_a_provider_that_is_away_is_asked_again_later(world: World) -> None:
    await world.queue("u1", "a1")
    create, calls = world.provider.create, 0

    async def fail_once(*given: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ProviderBusy("connection refused")
        return await create(*given)

    world.provider.create = fail_once  # type: ignore[method-assign, assignment]
    async with world.running(world.dispatcher()):
        await until(lambda: is_in(world, "running"), "it runs in the end")
    assert calls == 2


async def test_an_operation_of_a_later_version_is_left_to_later_workers(world: World) -> None:
    await world.queue("u1", "o1", operation="hologram.image")
    assert await world.dispatcher().tick() == 0
    assert await world.state("u1", "o1") == "queued"


async def test_a_stopping_worker_waits_for_the_answers_it_has_asked_for(world: World) -> None:
    await world.queue("u1", "s1")
    create = world.provider.create
    asked = asyncio.Event()

    async def create_slowly(*given: Any) -> dict[str, Any]:
        asked.set()
        await asyncio.sleep(0.3)
        return await create(*given)

    world.provider.create = create_slowly  # type: ignore[method-assign, assignment]
    stop = asyncio.Event()
    running = asyncio.create_task(run_together([world.dispatcher()], stop))
    await asked.wait()
    stop.set()
    await running
    assert await world.state("u1", "s1") == "running"


async def is_in(world: World, state: str, request_id: str = "", attempts: int = 0) -> bool:
    rows = await world.pool.fetch("SELECT request_id, state, attempts FROM generations")
    chosen = [row for row in rows if row["request_id"] == request_id or not request_id]
    return bool(chosen) and all(row["state"] == state and row["attempts"] >= attempts for row in chosen)
