"""Every kind of request through Kafka: what is admitted, and what each refusal says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.operations import OPERATIONS
from models.topics import DEAD_LETTERS, REQUESTED
from tests.admission.scene import ask, assert_clean, fund, outcomes
from tests.faults.harness import World, request

IMAGES = [f"https://pictures.example/{number}.jpg" for number in range(5)]
OPTIONS: dict[str, dict[str, Any]] = {
    "video.animation": {"image_url": IMAGES[0]},
    "training.model": {"images": IMAGES, "trigger_word": "MARA"},
}


async def test_every_operation_is_admitted_at_its_cost_and_limited_by_its_own_window(world: World) -> None:
    await fund(world, ["u"], 1000)
    await world.start().ready()
    for name, operation in OPERATIONS.items():
        rows = [
            request(f"{name}-{number}", "u", operation=name, options=OPTIONS.get(name, {}))
            for number in range(operation.policy.limit + 1)
        ]
        found = await ask(world, *rows)
        assert outcomes(found) == ["admitted"] * operation.policy.limit + ["rate_limited"]
        assert {answer["cost"] for answer in found if answer["outcome"] == "admitted"} == {operation.cost}
        refusal = found[-1]
        assert (refusal["policy"], refusal["limit"]) == (operation.policy.name, operation.policy.limit)
        assert (refusal["window_s"], refusal["remaining"]) == (operation.policy.window_s, 0)
        assert 0 < refusal["retry_after_s"] <= operation.policy.window_s
        assert refusal["message"].startswith(f"Too many {operation.label} requests. Try again in ")
    await assert_clean(world)


async def test_repeats_conflicts_and_refusals_are_answered_as_they_should_be(world: World) -> None:
    await fund(world, ["u"], 5)
    await world.start().ready()
    first, same = await ask(world, request("a", "u")), await ask(world, request("a", "u"))
    assert outcomes(first) == outcomes(same) == ["admitted"]
    kept = ("cost", "balance", "version", "admitted_at")
    assert [first[0][name] for name in kept] == [same[0][name] for name in kept]
    (other,) = await ask(world, request("a", "u", prompt="something else"))
    assert (other["reason"], other["message"]) == ("conflict", "This request id was used before for something else.")
    (poor,) = await ask(world, request("b", "u", operation="training.model", options=OPTIONS["training.model"]))
    assert (poor["reason"], poor["required"], poor["current"]) == ("insufficient_credits", 25, 4)
    assert poor["message"] == "This needs 25 credits and you have 4."
    # Refused for credits, so the id is free to be used again, also for something else.
    assert outcomes(await ask(world, request("b", "u"))) == ["admitted"]
    assert outcomes(await ask(world, request("a", "v"))) == ["insufficient_credits"]
    await assert_clean(world)


@pytest.fixture
async def running(world: World) -> World:
    await fund(world, ["u"], 50)
    await world.start().ready()
    return world


BAD: list[tuple[dict[str, Any], str]] = [
    ({"operation": "maya.film"}, "operation"),
    ({"operation": 7}, "operation"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 4001}, "prompt"),
    ({"prompt": "x" * 70_000}, ""),
    ({"prompt": "nul \0"}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"options": {"num_outputs": 0}}, "options.num_outputs"),
    ({"options": {"num_outputs": 2}}, "options.num_outputs"),
    ({"operation": "studio.images", "options": {"num_outputs": 5}}, "options.num_outputs"),
    ({"options": {"aspect_ratio": "wide"}}, "options.aspect_ratio"),
    ({"options": {"seed": -1}}, "options.seed"),
    ({"options": []}, "options"),
    ({"context": {"position": 0}}, "context.position"),
    ({"operation": "video.animation"}, "options.image_url"),
    ({"operation": "video.animation", "options": {"image_url": "file:///etc/passwd"}}, "options.image_url"),
    ({"operation": "training.model", "options": {"images": IMAGES[:4]}}, "options.images"),
    ({"operation": "training.model", "options": {"images": [*IMAGES, 7]}}, "options.images[5]"),
]


async def test_bad_content_is_answered_invalid_with_the_field_that_is_wrong(running: World) -> None:
    rows = [request(f"bad{number}", "u", **fields) for number, (fields, _) in enumerate(BAD)]
    found = await ask(running, *rows)
    assert outcomes(found) == ["invalid"] * len(BAD)
    for answer, (fields, field) in zip(found, BAD, strict=True):
        assert field in [error["field"] for error in answer["errors"]], (fields, answer["errors"])
        assert all(error["problem"] for error in answer["errors"])
    assert await running.read(DEAD_LETTERS) == []
    assert await running.fetch("SELECT count(*) FROM generations") == [(0,)]


async def test_ids_with_forbidden_characters_go_to_the_dead_letters(running: World) -> None:
    bad = ["with space", "slash/ed", "ü", "", "x" * 129, "new\nline", None]
    body = {"user_id": "u", "operation": "maya.image", "prompt": "x"}
    await running.produce(REQUESTED, [("u", json.dumps(body | {"request_id": name}).encode()) for name in bad])
    assert outcomes(await ask(running, request("good", "u"))) == ["admitted"]
    await running.until_acked("admission", REQUESTED)
    letters = await running.read(DEAD_LETTERS)
    assert [dict(letter.headers)["dl_reason"] for letter in letters] == [b"no_ids"] * len(bad)
