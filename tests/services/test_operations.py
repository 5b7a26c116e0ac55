"""Each operation asks for what the catalogue says: of the user's own model where there is one, of the trainer's API."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from devstack.emulator.server import running_emulator
from models.provider_work import TRAININGS

from .conftest import QUICK
from .door import open_door
from .world import World, until, world_on

VERSION = "emulator/trained:" + "c" * 64


def training_options(mark: str = "", **options: Any) -> str:
    return json.dumps({"images": [f"http://x/{number}.jpg{mark}" for number in range(5)]} | options)


async def train(world: World, user_id: str, *request_ids: str, mark: str = "", age_s: int = 0, **options: Any) -> None:
    asked = training_options(mark, **options)
    await world.queue(user_id, *request_ids, operation="training.model", cost=25, options=asked, age_s=age_s)


async def own_model(world: World, user_id: str, version: str = VERSION, trigger_word: str = "MARA") -> None:
    await world.pool.execute(
        "INSERT INTO user_models (user_id, version, trigger_word, request_id, admitted_at)"
        " VALUES ($1, $2, $3, 't', now()) ON CONFLICT (user_id) DO UPDATE SET version = $2, trigger_word = $3",
        user_id,
        version,
        trigger_word,
    )


async def ends(world: World, *expected: str) -> None:
    async def ended() -> bool:
        return set(await world.states()) == set(expected)

    await until(ended, f"everything is {expected}")


async def run_of(world: World, user_id: str, request_id: str, collection: str = "predictions") -> dict[str, Any]:
    """The one run of a request, as the provider shows it."""
    (prediction_id,) = (await world.counts())["requests"][f"{user_id}/{request_id}"]
    return await world.provider.get(prediction_id, collection)


async def model_of(world: World, user_id: str) -> tuple[str, str, str] | None:
    row = await world.pool.fetchrow(
        "SELECT version, trigger_word, request_id FROM user_models WHERE user_id = $1", user_id
    )
    return None if row is None else tuple(row)


@pytest.mark.parametrize(
    ("operation", "prompt", "ratio", "outputs"),
    [
        ("maya.image", "MARA a lake", "4:5", 1),
        ("feed.post", "MARA a lake", "4:5", 1),
        ("studio.images", "MARA a lake", "1:1", 4),
    ],
)
async def test_a_user_s_pictures_are_made_by_the_user_s_own_model(
    world: World, operation: str, prompt: str, ratio: str, outputs: int
) -> None:
    await own_model(world, "u1")
    await world.queue("u1", "r1", operation=operation, prompt="a lake")
    await world.queue("u2", "r2", operation=operation, prompt="a lake")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    run, other = await run_of(world, "u1", "r1"), await run_of(world, "u2", "r2")
    assert (run["version"], other["model"]) == ("c" * 64, "emulator/flux")
    assert (run["input"]["prompt"], other["input"]["prompt"]) == (prompt, "a lake")
    assert (run["input"]["aspect_ratio"], run["input"]["num_outputs"]) == (ratio, outputs)
    assert len(json.loads((await world.row("u1", "r1"))["output_urls"])) == outputs


async def test_a_video_begins_with_its_picture_and_yields_one_address(world: World) -> None:
    await own_model(world, "u1")
    await world.queue("u1", "v1", operation="video.animation", cost=3, options='{"image_url": "http://x/a.jpg"}')
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "storing")
    run = await run_of(world, "u1", "v1")
    assert (run["model"], run["input"]["image"]) == ("emulator/video", "http://x/a.jpg")
    assert not run["input"]["prompt"].startswith("MARA")
    (url,) = json.loads((await world.row("u1", "v1"))["output_urls"])
    assert url == run["output"]


async def test_a_training_makes_the_model_that_the_next_picture_is_made_with(world: World) -> None:
    async with open_door(world.publisher) as world.webhook_base_url:
        await train(world, "u1", "t1", trigger_word="MARA")
        async with world.running(world.dispatcher()):
            await ends(world, "completed")
            made = await run_of(world, "u1", "t1", TRAININGS)
            assert await model_of(world, "u1") == (made["output"]["version"], "MARA", "t1")
            await world.queue("u1", "r1", prompt="a lake")
            await ends(world, "completed", "storing")
    assert made["destination"] == "emulator/trained"
    assert made["input"] == {"input_images": [f"http://x/{number}.jpg" for number in range(5)], "trigger_word": "MARA"}
    run = await run_of(world, "u1", "r1")
    assert (run["version"], run["input"]["prompt"]) == (made["output"]["version"].partition(":")[2], "MARA a lake")
    assert {source for _, source in world.publisher.statuses("t1")} <= {"webhook", "dispatcher"}


async def test_an_older_training_that_ends_later_does_not_replace_a_newer(world: World) -> None:
    await train(world, "u1", "old", mark="[[fault:missing_webhook]]", trigger_word="OLD")
    await world.pool.execute("UPDATE generations SET admitted_at = admitted_at - interval '1 minute'")
    async with open_door(world.publisher) as world.webhook_base_url:
        dispatcher = world.dispatcher()
        async with world.running(dispatcher):
            await train(world, "u1", "new", trigger_word="NEW")
            await ends(world, "running", "completed")
        async with world.running(world.reconciler()):
            await ends(world, "completed")
    model = await model_of(world, "u1")
    assert model is not None
    assert model[1:] == ("NEW", "new")


async def test_a_training_whose_answer_was_lost_is_adopted_from_the_list_of_trainings(world: World) -> None:
    await train(world, "u1", "t1", "t2", mark="[[fault:lost_answer]][[fault:missing_webhook]]")
    async with world.running(world.dispatcher(), world.reconciler()):
        await ends(world, "completed")
    for request_id in ("t1", "t2"):
        assert await world.runs_of("u1", request_id) == 1
        assert (await run_of(world, "u1", request_id, TRAININGS))["id"] == (await world.row("u1", request_id))[
            "prediction_id"
        ]


async def test_twin_trainings_with_the_same_chosen_word_are_never_run_twice(world: World) -> None:
    mark = "[[fault:lost_answer]][[fault:missing_webhook]]"
    await train(world, "u1", "t1", "t2", mark=mark, trigger_word="MARA")
    async with world.running(world.dispatcher(), world.reconciler(deadline_s=1.8)):
        await ends(world, "failed")
    assert (await world.counts())["paid_twice"] == {}
    assert (await world.row("u1", "t1"))["reason"] == "expired"


async def test_a_training_that_takes_too_long_is_cancelled_where_trainings_are(world: World) -> None:
    await train(world, "u1", "t1", mark="[[fault:stuck]]")
    async with world.running(world.dispatcher(), world.reconciler(deadline_s=0.5)):
        await ends(world, "failed")

        async def is_cancelled_there() -> bool:
            return bool((await run_of(world, "u1", "t1", TRAININGS))["status"] == "canceled")

        await until(is_cancelled_there, "the training is cancelled at the provider")
    row = await world.row("u1", "t1")
    assert (row["reason"], row["refunded"]) == ("expired", 25)


async def test_trainings_and_pictures_have_deadlines_of_their_own(world: World) -> None:
    await train(world, "u1", "young", age_s=59 * 60)
    await train(world, "u1", "old", age_s=61 * 60)
    await world.queue("u2", "late", age_s=36 * 60)
    async with world.running(world.reconciler()):
        await until(lambda: has_states(world, young="queued", old="failed", late="failed"), "the late ones expire")


async def has_states(world: World, **expected: str) -> bool:
    rows = await world.pool.fetch("SELECT request_id, state FROM generations")
    return {row["request_id"]: row["state"] for row in rows} == expected


async def test_a_model_that_is_trained_between_two_attempts_changes_nothing(world: World) -> None:
    await world.queue("u1", "r1", prompt="a lake [[fault:server_error]]")
    dispatcher = world.dispatcher()
    assert await dispatcher.tick() == 1
    await dispatcher.hands.drain(5.0)
    await own_model(world, "u1")
    async with world.running(dispatcher, world.reconciler()):
        await ends(world, "running")
    run = await run_of(world, "u1", "r1")
    assert (run["model"], run["input"]["prompt"]) == ("emulator/flux", "a lake [[fault:server_error]]")


async def test_a_lost_run_is_found_again_although_the_model_has_changed_meanwhile(world: World) -> None:
    await own_model(world, "u1")
    await world.queue("u1", "r1", prompt="a lake [[fault:lost_answer]]")
    dispatcher = world.dispatcher()
    assert await dispatcher.tick() == 1
    await dispatcher.hands.drain(5.0)
    await own_model(world, "u1", "emulator/trained:" + "d" * 64, "OTHER")
    async with world.running(dispatcher, world.reconciler()):
        await ends(world, "storing")
    assert await world.runs_of("u1", "r1") == 1


async def test_a_destination_that_does_not_exist_makes_trainings_wait_for_a_person(
    database: str, tmp_path: Any
) -> None:
    with running_emulator(replace(QUICK, destinations_must_exist=True)) as url:
        async with world_on(database, url, str(tmp_path)) as world:
            await train(world, "u1", "t1")
            dispatcher = world.dispatcher()
            assert await dispatcher.tick() == 1
            await dispatcher.hands.drain(5.0)
            assert await world.state("u1", "t1") == "queued"
            async with httpx.AsyncClient() as client:
                await client.post(f"{url}/v1/models", json={"owner": "emulator", "name": "trained"})
            await world.pool.execute("UPDATE generations SET due_at = now()")
            async with world.running(dispatcher, world.reconciler()):
                await ends(world, "completed")
