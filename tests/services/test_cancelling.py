"""Cancelling at every state, with the real services and a real emulator: no refund while a run may still go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from models.cancelling import Stopping
from models.errors import ProviderBusy
from models.facts import PredictionUpdated
from models.provider_work import TRAININGS, Model, Work, updated, webhook_url
from models.requests import Options
from models.settlement import Ended
from streams.facts import FactPublisher

from .door import open_door
from .world import World, until

STUCK = "a lake [[fault:stuck]]"


async def is_in(world: World, *states: str) -> bool:
    return set(await world.states()) == set(states)


async def ends(world: World, *states: str) -> None:
    await until(lambda: is_in(world, *states), f"everything is {states}")


async def assert_cancelled(world: World, request_id: str = "r1", refunded: int = 1, runs: int = 1) -> None:
    row = await world.row("u1", request_id)
    assert (row["state"], row["reason"], row["refunded"]) == ("cancelled", "cancelled", refunded)
    refunds = await world.pool.fetch("SELECT amount FROM ledger WHERE kind = 'refund'")
    assert [entry["amount"] for entry in refunds] == [refunded]
    assert await world.runs_of("u1", request_id) == runs


async def status_there(world: World, collection: str = "predictions") -> str:
    """Of the only run."""
    ((prediction_id,),) = (await world.counts())["requests"].values()
    return str((await world.provider.get(prediction_id, collection))["status"])


async def test_a_queued_request_is_cancelled_at_once_and_never_run(world: World) -> None:
    await world.queue("u1", "r1")
    assert isinstance(await world.cancel("u1", "r1"), Ended)
    assert await world.dispatcher().tick() == 0
    await assert_cancelled(world, runs=0)


async def test_a_running_request_is_cancelled_when_the_provider_says_so(world: World) -> None:
    await world.queue("u1", "r1", prompt=STUCK)
    async with world.running(world.dispatcher()):
        await ends(world, "running")
    assert await world.cancel("u1", "r1") == Stopping()
    assert (await world.row("u1", "r1"))["refunded"] == 0
    async with world.running(world.reconciler(poll_after_s=30.0)):
        await ends(world, "cancelled")
    assert await status_there(world) == "canceled"
    await assert_cancelled(world)


async def test_a_cancel_while_the_creation_is_under_way_stops_the_run(world: World) -> None:
    await world.queue("u1", "r1", prompt=STUCK)
    create = world.provider.create

    async def create_and_cancel(*given: Any) -> dict[str, Any]:
        assert await world.cancel("u1", "r1") == Stopping()
        body = await create(*given)
        assert (await world.row("u1", "r1"))["refunded"] == 0
        return body

    world.provider.create = create_and_cancel  # type: ignore[method-assign, assignment]
    async with world.running(world.dispatcher(poll_after_s=30.0), world.reconciler(poll_after_s=30.0)):
        await ends(world, "cancelled")
    assert await status_there(world) == "canceled"
    await assert_cancelled(world)


async def test_a_run_that_is_written_down_after_the_cancel_is_due_before_it_is_announced(world: World) -> None:
    await world.queue("u1", "r1", prompt=STUCK)
    create = world.provider.create

    async def cancel_and_create(*given: Any) -> dict[str, Any]:
        await world.cancel("u1", "r1")
        world.publisher.is_away = True
        return await create(*given)

    world.provider.create = cancel_and_create  # type: ignore[method-assign, assignment]
    dispatcher, reconciler = world.dispatcher(poll_after_s=60.0), world.reconciler(poll_after_s=60.0)
    await dispatcher.tick()
    await dispatcher.hands.drain(5.0)
    assert await reconciler.tick() == 1
    assert await status_there(world) == "canceled"


async def test_a_run_that_announces_itself_after_the_cancel_is_stopped(world: World) -> None:
    await world.queue("u1", "r1", prompt=STUCK + " [[fault:lost_answer]]")
    dispatcher = world.dispatcher(timeout_s=0.1, start_window_s=60.0)
    await dispatcher.tick()
    await dispatcher.hands.drain(5.0)
    await world.cancel("u1", "r1")
    ((prediction_id,),) = (await world.counts())["requests"].values()
    said = PredictionUpdated("r1", "u1", "processing", "webhook", prediction_id)
    async with world.running(world.reconciler(poll_after_s=60.0)):
        await FactPublisher(world.publisher, "gateway").prediction(said)
        await ends(world, "cancelled")
    assert await status_there(world) == "canceled"
    await assert_cancelled(world)


async def test_a_run_that_announces_itself_after_its_request_has_ended_is_stopped(world: World) -> None:
    await world.queue("u1", "r1", prompt=STUCK)
    await world.cancel("u1", "r1")
    work = Work("u1", "r1", "maya.image", STUCK, Options(), Model("emulator/flux"))
    body = await world.provider.create(work, webhook_url("http://127.0.0.1:9", work))
    for _ in range(2):
        await FactPublisher(world.publisher, "gateway").prediction(updated(work, body, "webhook"))
    cancel, asked = world.provider.cancel, 0

    async def fail_once(*given: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ProviderBusy("it does not answer, says the test")
        await cancel(*given)

    world.provider.cancel = fail_once  # type: ignore[method-assign]

    async def is_forgotten() -> bool:
        return await world.pool.fetchval("SELECT count(*) FROM stray_runs") == 0

    async with world.running(world.reconciler()):
        await until(is_forgotten, "the run is stopped")
    assert await status_there(world) == "canceled"
    assert asked == 2
    await assert_cancelled(world)


async def test_a_lost_run_of_a_cancelled_request_is_found_and_stopped(world: World) -> None:
    await world.queue("u1", "r1", prompt=STUCK + " [[fault:lost_answer]]")
    dispatcher = world.dispatcher()
    await dispatcher.tick()
    await dispatcher.hands.drain(5.0)
    assert await world.cancel("u1", "r1") == Stopping()
    async with world.running(dispatcher, world.reconciler()):
        await ends(world, "cancelled")
    assert await status_there(world) == "canceled"
    await assert_cancelled(world)


@pytest.mark.parametrize(("fault", "window_s"), [("lost_request", 0.2), ("server_error", 30.0), ("rate_limited", 30.0)])
async def test_a_cancelled_request_that_has_no_run_is_not_given_another(
    world: World, fault: str, window_s: float
) -> None:
    await world.queue("u1", "r1", prompt=f"a lake [[fault:{fault}*9]]")
    create = world.provider.create

    async def cancel_and_create(*given: Any) -> dict[str, Any]:
        await world.cancel("u1", "r1")
        return await create(*given)

    world.provider.create = cancel_and_create  # type: ignore[method-assign, assignment]
    async with world.running(world.dispatcher(start_window_s=window_s), world.reconciler()):
        await ends(world, "cancelled")
    assert (await world.row("u1", "r1"))["attempts"] == 1
    await assert_cancelled(world, runs=0)


async def test_a_cancel_that_comes_after_the_run_completes_as_usual(world: World) -> None:
    await world.queue("u1", "r1")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
        await world.cancel("u1", "r1")
    async with world.running(world.reconciler(), world.keeper()):
        await ends(world, "completed")
    assert (await world.row("u1", "r1"))["refunded"] == 0


async def test_a_run_that_cannot_be_stopped_is_given_back_at_the_deadline(world: World) -> None:
    await world.queue("u1", "r1", prompt=STUCK)
    async with world.running(world.dispatcher()):
        await ends(world, "running")
    cancel, asked = world.provider.cancel, 0

    async def failing(*given: Any) -> None:
        nonlocal asked
        asked += 1
        raise ProviderBusy("it does not answer, says the test")

    world.provider.cancel = failing  # type: ignore[method-assign]
    await world.cancel("u1", "r1")
    async with world.running(world.reconciler(poll_after_s=0.05, deadline_s=1.5)):

        async def is_asked_again() -> bool:
            return asked >= 3

        await until(is_asked_again, "it is asked to stop again and again")
        assert await is_in(world, "running")
        await ends(world, "cancelled")
    world.provider.cancel = cancel  # type: ignore[method-assign]
    assert world.publisher.statuses("r1")[-1] == ("canceled", "deadline")
    await assert_cancelled(world)


async def test_a_training_is_cancelled_where_trainings_are(world: World) -> None:
    images = ", ".join(f'"http://x/{number}.jpg[[fault:stuck]]"' for number in range(5))
    await world.queue("u1", "r1", operation="training.model", cost=25, options=f'{{"images": [{images}]}}')
    async with world.running(world.dispatcher()):
        await ends(world, "running")
        await world.cancel("u1", "r1")
        async with world.running(world.reconciler()):
            await ends(world, "cancelled")
    assert await status_there(world, TRAININGS) == "canceled"
    await assert_cancelled(world, refunded=25)


async def test_many_cancels_at_any_moment_leave_every_request_ended_and_paid_once(world: World) -> None:
    names = [f"r{number}" for number in range(40)]
    await world.queue("u1", *names[:20])
    await world.queue("u2", *names[20:])

    async def cancel_all() -> None:
        for number, name in enumerate(names):
            await world.cancel("u1" if number < 20 else "u2", name)
            await asyncio.sleep(0.01)

    async with (
        open_door(world.publisher) as world.webhook_base_url,
        world.running(world.dispatcher(per_minute=6000), world.reconciler(), world.keeper()),
    ):
        await cancel_all()

        async def all_ended() -> bool:
            return set(await world.states()) <= {"completed", "cancelled"}

        await until(all_ended, "every request has ended")
    rows = await world.pool.fetch(
        "SELECT g.state, g.refunded, g.cost, count(i.image_id) AS kept FROM generations g"
        " LEFT JOIN ai_images i USING (user_id, request_id) GROUP BY g.user_id, g.request_id"
    )
    assert all((row["kept"], row["refunded"]) == ((1, 0) if row["state"] == "completed" else (0, 1)) for row in rows)
    assert (await world.counts())["paid_twice"] == {}
