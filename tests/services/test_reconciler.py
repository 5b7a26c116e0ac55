"""The reconciler: what was not heard of is asked for, what is lost is found, what takes too long ends."""

from __future__ import annotations

from adapters.generations import queue_generations
from adapters.postgres import transaction
from models.errors import ProviderBusy
from models.provider_work import Model, Work, updated, webhook_url
from models.requests import Options
from streams.facts import FactPublisher

from .door import open_door
from .world import World, until

SEEDED = '{"seed": 5}'


async def ends(world: World, *expected: str) -> None:
    async def ended() -> bool:
        return set(await world.states()) == set(expected)

    await until(ended, f"everything is {expected}")


async def test_a_run_whose_webhooks_never_come_is_polled(world: World) -> None:
    await world.queue("u1", "q1")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    assert world.publisher.statuses("q1")[-1] == ("succeeded", "reconciler")


async def test_a_poll_that_tells_nothing_new_is_not_published(world: World) -> None:
    await world.queue("u1", "n1", prompt="a lake [[fault:stuck]]")
    async with world.running(world.dispatcher(), world.reconciler(poll_after_s=0.05)):
        await ends(world, "running")
        polls = 0
        get = world.provider.get

        async def counting(*given: str) -> dict[str, object]:
            nonlocal polls
            polls += 1
            return await get(*given)

        world.provider.get = counting  # type: ignore[method-assign]

        async def polled() -> bool:
            return polls >= 3

        await until(polled, "it is polled again and again")
    assert world.publisher.statuses("n1") == [("starting", "dispatcher")]


async def test_a_run_whose_answer_was_lost_is_adopted_from_the_list(world: World) -> None:
    await world.queue("u1", "l1", "l2", prompt="a lake [[fault:lost_answer]]")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    for request_id in ("l1", "l2"):
        assert await world.runs_of("u1", request_id) == 1


async def test_a_slow_answer_is_as_good_as_lost(world: World) -> None:
    await world.queue("u1", "l3", prompt="a lake [[fault:slow_answer]]")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    assert await world.runs_of("u1", "l3") == 1


async def test_a_request_that_never_arrived_is_tried_again(world: World) -> None:
    await world.queue("u1", "t1", prompt="a lake [[fault:lost_request]]")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    assert (await world.counts())["totals"]["requests_lost"] == 1
    assert await world.runs_of("u1", "t1") == 1


async def test_nothing_is_tried_again_within_the_start_window(world: World) -> None:
    await world.queue("u1", "t1", prompt="a lake [[fault:lost_request]]")
    dispatcher, reconciler = world.dispatcher(start_window_s=30.0), world.reconciler()
    await dispatcher.tick()
    await dispatcher.hands.drain(5.0)
    await world.pool.execute("UPDATE generations SET lease_until = now() - interval '1 s'")
    assert await reconciler.tick() == 0
    await world.pool.execute("UPDATE generations SET due_at = due_at - interval '30 s'")
    assert await reconciler.tick() == 1
    assert await world.state("u1", "t1") == "queued"


async def test_a_lost_run_announces_itself_before_anybody_searches(world: World) -> None:
    async with open_door(world.publisher) as url:
        world.webhook_base_url = url
        await world.queue("u1", "w1", prompt="a lake [[fault:lost_answer]]")
        async with world.running(world.dispatcher()):
            await ends(world, "storing")
    assert {source for _, source in world.publisher.statuses("w1")} == {"webhook"}
    assert await world.runs_of("u1", "w1") == 1


async def test_a_run_of_a_request_that_is_not_queued_yet_is_adopted_and_looked_after(world: World) -> None:
    """As after a restored database, which may know less than the provider."""
    await world.queue("u1", "r1", state="admitted")
    await world.pool.execute("UPDATE generations SET due_at = NULL, queued_at = NULL")
    work = Work("u1", "r1", "maya.image", "a lake in the morning, r1", Options(), Model("emulator/flux"))
    body = await world.provider.create(work, webhook_url("http://127.0.0.1:9", work))
    await FactPublisher(world.publisher, "gateway").prediction(updated(work, body, "webhook"))
    assert await world.state("u1", "r1") == "running"
    async with transaction(world.pool) as held:
        await queue_generations(held, {("u1", "r1"): None})
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    assert await world.runs_of("u1", "r1") == 1


async def test_twins_with_the_same_chosen_seed_wait_for_their_webhooks(world: World) -> None:
    async with open_door(world.publisher) as url:
        twins = {"prompt": "twins [[fault:lost_answer]] [[fault:late_webhook]]", "options": SEEDED}
        world.webhook_base_url = url
        await world.queue("u1", "tw1", **twins)
        await world.queue("u2", "tw2", **twins)
        async with world.running(world.dispatcher(), world.reconciler()):
            # The start webhooks come at once; they adopt, and nobody has been given the other's run.
            await ends(world, "storing")
    requests = (await world.counts())["requests"]
    for user_id, request_id in (("u1", "tw1"), ("u2", "tw2")):
        assert requests[f"{user_id}/{request_id}"] == [(await world.row(user_id, request_id))["prediction_id"]]


async def test_a_twin_without_a_webhook_is_never_run_twice(world: World) -> None:
    prompt = "silent twins [[fault:lost_answer]] [[fault:missing_webhook]]"
    await world.queue("u1", "sw1", "sw2", prompt=prompt, options=SEEDED)
    reconciler = world.reconciler(deadline_s=1.8)
    async with world.running(world.dispatcher(), reconciler):
        await ends(world, "failed")
    for request_id in ("sw1", "sw2"):
        assert await world.runs_of("u1", request_id) == 1
        assert (await world.row("u1", request_id))["reason"] == "expired"


async def test_a_search_that_fails_lets_nothing_be_tried_again(world: World) -> None:
    await world.queue("u1", "x1", prompt="a lake [[fault:lost_answer]]")
    list_page, searches = world.provider.list_page, 0

    async def failing(*given: str | None) -> tuple[list[dict[str, object]], str | None]:
        nonlocal searches
        searches += 1
        if searches <= 2:
            raise ProviderBusy("it does not answer, says the test")
        return await list_page(*given)

    world.provider.list_page = failing  # type: ignore[method-assign]
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    assert searches >= 3
    assert await world.runs_of("u1", "x1") == 1


async def test_a_search_that_did_not_see_all_lets_nothing_be_tried_again(world: World) -> None:
    await world.queue("u1", "y1", prompt="a lake [[fault:lost_answer]]")

    async def endless(*given: str | None) -> tuple[list[dict[str, object]], str | None]:
        return [{"id": "p1", "created_at": "2099-01-01T00:00:00Z"}], "cursor=more"

    world.provider.list_page = endless  # type: ignore[method-assign]
    reconciler = world.reconciler(poll_after_s=0.05)
    dispatcher = world.dispatcher()
    await dispatcher.tick()
    await dispatcher.hands.drain(5.0)

    async def searched() -> bool:
        return await reconciler.tick() == 1

    await until(searched, "it is searched for")
    assert await world.state("u1", "y1") == "submitting"


async def test_a_run_that_takes_too_long_expires_and_is_cancelled(world: World) -> None:
    await world.queue("u1", "d1", prompt="a lake [[fault:stuck]]")
    async with world.running(world.dispatcher(), world.reconciler(deadline_s=0.5)):
        await ends(world, "failed")

        async def is_cancelled_there() -> bool:
            runs = (await world.counts())["requests"]["u1/d1"]
            return bool((await world.provider.get(runs[0]))["status"] == "canceled")

        await until(is_cancelled_there, "the run is cancelled at the provider")
    row = await world.row("u1", "d1")
    assert (row["reason"], row["refunded"]) == ("expired", 1)
    assert world.publisher.statuses("d1")[-1] == ("expired", "deadline")


async def test_a_run_that_ends_just_in_time_is_not_expired(world: World) -> None:
    await world.queue("u1", "j1")
    async with world.running(world.dispatcher()):
        await ends(world, "running")
    prediction_id = (await world.row("u1", "j1"))["prediction_id"]

    async def is_over_unheard() -> bool:
        return bool((await world.provider.get(prediction_id))["status"] == "succeeded")

    await until(is_over_unheard, "the run ends")
    async with world.running(world.reconciler(deadline_s=0.1)):
        await ends(world, "storing")
    assert (await world.row("u1", "j1"))["reason"] is None


async def test_a_request_queued_through_a_long_outage_expires(world: World) -> None:
    await world.queue("u1", "o1", age_s=36 * 60)
    await world.queue("u2", "o2", age_s=34 * 60)
    assert await world.dispatcher().tick() == 1
    async with world.running(world.reconciler()):

        async def has_expired() -> bool:
            return await world.state("u1", "o1") == "failed"

        await until(has_expired, "the older one expires")
    assert (await world.row("u1", "o1"))["reason"] == "expired"
    assert await world.runs_of("u1", "o1") == 0


async def test_a_run_that_was_aborted_fails_its_request(world: World) -> None:
    await world.queue("u1", "a1", prompt="a lake [[fault:aborted]]")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "failed")
    assert (await world.row("u1", "a1"))["reason"] == "provider_failed"
    assert world.publisher.statuses("a1")[-1] == ("aborted", "reconciler")
