"""The keeper: pictures are safe before anybody hears of them; what cannot be kept is named and given back."""

from __future__ import annotations

import asyncio
import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest
from PIL import Image

from models.errors import Unavailable
from models.operations import OPERATIONS
from models.provider_work import Model, Work
from models.requests import Options

from .world import World, downloads_within, until


async def make_outputs(world: World, request_id: str, prompt: str, operation: str) -> tuple[str, list[str]]:
    """Let the emulator make pictures, or a video: (prediction id, their URLs)."""
    model = Model("emulator/video" if operation == "video.animation" else "emulator/flux")
    work = Work("u1", request_id, operation, prompt, Options(image_url="http://pictures/first.jpg"), model)
    prediction_id = (await world.provider.create(work, ""))["id"]
    body: dict[str, Any] = {}

    async def is_made() -> bool:
        body.update(await world.provider.get(prediction_id))
        return bool(body["status"] == "succeeded")

    await until(is_made, "the outputs are made")
    output = body["output"]
    return prediction_id, [output] if isinstance(output, str) else output


async def storing(
    world: World, request_id: str, prompt: str = "a lake", operation: str = "maya.image", **columns: Any
) -> None:
    """A request whose outputs are made and wait to be kept."""
    prediction_id, urls = await make_outputs(world, request_id, prompt, operation)
    await world.queue(
        "u1",
        request_id,
        operation=operation,
        cost=OPERATIONS[operation].cost,
        state="storing",
        prediction_id=prediction_id,
        output_urls=msgspec.json.encode(urls).decode(),
        **columns,
    )


async def ends(world: World, state: str) -> None:
    async def ended() -> bool:
        return set(await world.states()) == {state}

    await until(ended, f"everything is {state}")


async def test_pictures_are_stored_with_thumbnails_before_they_are_announced(world: World) -> None:
    await storing(world, "r1", operation="studio.images")
    async with world.running(world.keeper()):
        await ends(world, "completed")
    (topic, fact, event_id), *others = world.publisher.sent
    assert (topic, event_id, others, fact["missing"]) == ("images.stored.v1", "u1/r1/stored", [], [])
    assert [image["output_index"] for image in fact["images"]] == [0, 1, 2, 3]
    for image in fact["images"]:
        data = await world.blobs.get(image["key"])
        thumbnail = await world.blobs.get(image["thumbnail_key"])
        assert data is not None
        assert thumbnail is not None
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (image["sha256"], image["bytes"])
        assert Image.open(io.BytesIO(data)).size == (image["width"], image["height"])
        assert Image.open(io.BytesIO(thumbnail)).format == "WEBP"


async def test_keeping_again_gives_the_same_objects_and_the_same_fact(world: World) -> None:
    await storing(world, "r1")
    world.publisher.settles = False
    for times in (1, 2):
        async with world.running(world.keeper()):

            async def is_published(times: int = times) -> bool:
                return len(world.publisher.sent) == times

            await until(is_published, "the fact is published")
        await world.pool.execute("UPDATE generations SET due_at = now(), lease_until = NULL")
    assert world.publisher.sent[0] == world.publisher.sent[1]
    assert len([found.key async for found in world.blobs.list("images")]) == 1


async def test_a_picture_that_can_never_be_kept_is_given_back_at_once(world: World) -> None:
    reasons = {
        "corrupt_image": "corrupt_image",
        "wrong_content_type": "wrong_type",
        "not_an_image": "wrong_type",
        "huge_image": "too_many_pixels",
        "expired_output": "gone",
        "redirected_output": "forbidden_host",
    }
    for fault in reasons:
        await storing(world, fault, f"a lake [[fault:{fault}]]")
    async with world.running(world.keeper()):
        await ends(world, "failed")
    assert {fact["request_id"]: fact["missing"] for _, fact, _ in world.publisher.sent} == {
        fault: [{"output_index": 0, "reason": reason}] for fault, reason in reasons.items()
    }
    rows = await world.pool.fetch("SELECT reason, refunded, attempts FROM generations")
    assert {tuple(row) for row in rows} == {("outputs_lost", 1, 1)}
    assert [found.key async for found in world.blobs.list("images")] == []


async def test_one_lost_picture_of_a_set_is_given_back_alone(world: World) -> None:
    await storing(world, "r1", "a lake [[fault:corrupt_image@1]]", operation="studio.images")
    async with world.running(world.keeper()):
        await ends(world, "completed")
    fact = world.publisher.sent[0][1]
    assert [image["output_index"] for image in fact["images"]] == [0, 2, 3]
    assert fact["missing"] == [{"output_index": 1, "reason": "corrupt_image"}]
    assert (await world.row("u1", "r1"))["refunded"] == 1


async def test_a_set_that_comes_back_short_is_given_back_in_part(world: World) -> None:
    await storing(world, "r1", "a lake [[fault:half_set]]", operation="studio.images")
    async with world.running(world.keeper()):
        await ends(world, "completed")
    missing = [{"output_index": index, "reason": "not_delivered"} for index in (2, 3)]
    assert world.publisher.sent[0][1]["missing"] == missing
    assert (await world.row("u1", "r1"))["refunded"] == 2


async def test_a_download_that_is_too_slow_is_tried_again(world: World) -> None:
    await storing(world, "r1", "a lake [[fault:slow_download*1]]")
    world.downloads = downloads_within(0.5)
    async with world.running(world.keeper()):
        await ends(world, "completed")
    assert world.publisher.sent[0][1]["missing"] == []
    await world.downloads.close()


async def test_after_too_many_tries_a_picture_is_lost(world: World) -> None:
    await storing(world, "r1", "a lake [[fault:slow_download]]")
    world.downloads = downloads_within(0.3)
    async with world.running(world.keeper(tries_max=2)):
        await ends(world, "failed")
    assert world.publisher.sent[0][1]["missing"] == [{"output_index": 0, "reason": "unreachable"}]
    await world.downloads.close()


async def test_outputs_that_have_outlived_their_hour_are_tried_once_more(world: World) -> None:
    await storing(world, "r1", "a lake [[fault:slow_download]]", age_s=3601)
    world.downloads = downloads_within(0.3)
    async with world.running(world.keeper()):
        await ends(world, "failed")
    assert (await world.row("u1", "r1"))["attempts"] == 1
    await world.downloads.close()


async def test_while_the_blob_store_is_away_pictures_wait(world: World) -> None:
    await storing(world, "r1")
    put, failures = world.blobs.put, 0

    async def failing(key: str, data: bytes) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise Unavailable("the blob store", "no space left, says the test")
        await put(key, data)

    world.blobs.put = failing  # type: ignore[method-assign]
    async with world.running(world.keeper()):
        await ends(world, "completed")
    assert failures == 3


async def test_while_kafka_is_away_pictures_wait(world: World) -> None:
    await storing(world, "r1")
    world.publisher.is_away = True
    async with world.running(world.keeper()):

        async def is_put_off() -> bool:
            row = await world.row("u1", "r1")
            return row["attempts"] == 1 and row["lease_until"] is None

        await until(is_put_off, "it is put off")
        world.publisher.is_away = False
        await ends(world, "completed")


async def test_a_stopping_worker_hands_its_pictures_to_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runner.DRAIN_S", 0.1)
    await storing(world, "r1", "a lake [[fault:slow_download*1]]")
    async with world.running(world.keeper()):

        async def is_leased() -> bool:
            return (await world.row("u1", "r1"))["lease_until"] is not None

        await until(is_leased, "it is leased")
        await asyncio.sleep(0.1)
    assert (await world.row("u1", "r1"))["lease_until"] is None
    async with world.running(world.keeper()):
        await ends(world, "completed")


async def test_work_in_hand_keeps_its_lease(world: World) -> None:
    await storing(world, "r1", "a lake [[fault:slow_download*1]]")
    async with world.running(world.keeper(lease_s=0.6), world.keeper(lease_s=0.6)):
        await ends(world, "completed")
    row = await world.row("u1", "r1")
    assert row["attempts"] == 1
    assert len(world.publisher.sent) == 1


async def test_a_picture_from_elsewhere_is_not_fetched(world: World) -> None:
    listed = '["http://127.0.0.1.evil.test/x.jpg"]'
    await world.queue("u1", "r1", state="storing", prediction_id="p1", output_urls=listed)
    async with world.running(world.keeper()):
        await ends(world, "failed")
    assert world.publisher.sent[0][1]["missing"] == [{"output_index": 0, "reason": "forbidden_host"}]


async def test_a_video_is_stored_whole_without_a_thumbnail(world: World) -> None:
    await storing(world, "r1", operation="video.animation")
    async with world.running(world.keeper()):
        await ends(world, "completed")
    (video,) = world.publisher.sent[0][1]["images"]
    data = await world.blobs.get(video["key"])
    assert data is not None
    assert video == {
        "output_index": 0,
        "key": f"videos/{video['sha256'][:2]}/{video['sha256']}.webm",
        "thumbnail_key": "",
        "width": 96,
        "height": 96,
        "content_type": "video/webm",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    row = await world.pool.fetchrow("SELECT * FROM videos")
    assert row is not None
    assert (row["video_id"], row["video_key"]) == (f"{row['prediction_id']}-0", video["key"])
    assert row["video_url"] == f"http://pictures/{video['key']}"
    assert (row["operation"], row["source"], row["content_type"]) == ("video.animation", "video", "video/webm")
    assert await world.pool.fetchval("SELECT count(*) FROM ai_images") == 0
    assert await world.pool.fetchval("SELECT image_count FROM generated_images") == 1


async def test_a_video_that_can_never_be_kept_is_given_back_whole(world: World) -> None:
    reasons = {
        "corrupt_image": "corrupt_video",
        "wrong_content_type": "wrong_type",
        "not_an_image": "wrong_type",
        "expired_output": "gone",
        "redirected_output": "forbidden_host",
    }
    for fault in reasons:
        await storing(world, fault, f"a lake [[fault:{fault}]]", operation="video.animation")
    async with world.running(world.keeper()):
        await ends(world, "failed")
    assert {fact["request_id"]: fact["missing"] for _, fact, _ in world.publisher.sent} == {
        fault: [{"output_index": 0, "reason": reason}] for fault, reason in reasons.items()
    }
    rows = await world.pool.fetch("SELECT reason, refunded FROM generations")
    assert {tuple(row) for row in rows} == {("outputs_lost", 3)}
    assert [found async for found in world.blobs.list("videos")] == []


async def test_a_video_that_comes_too_slowly_is_tried_again(world: World) -> None:
    await storing(world, "r1", "a lake [[fault:slow_download*1]]", operation="video.animation")
    world.downloads = downloads_within(0.5)
    async with world.running(world.keeper()):
        await ends(world, "completed")
    assert (await world.row("u1", "r1"))["attempts"] == 2
    await world.downloads.close()


async def test_a_disk_without_room_for_a_video_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await storing(world, "r1", operation="video.animation")

    def full() -> BinaryIO:
        return Path("/dev/full").open("wb", buffering=0)

    with monkeypatch.context() as patched:
        patched.setattr("adapters.spool.tempfile.TemporaryFile", full)
        async with world.running(world.keeper()):

            async def is_put_off() -> bool:
                row = await world.row("u1", "r1")
                return row["attempts"] == 1 and row["lease_until"] is None

            await until(is_put_off, "it is put off")
    async with world.running(world.keeper()):
        await ends(world, "completed")
