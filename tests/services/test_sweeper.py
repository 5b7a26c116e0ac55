"""The sweeper: orphans go, and nothing else does, however its work and a keeper's fall together."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.blobs import ObjectBlobs, open_blobs
from adapters.gallery import delete_output
from adapters.sweeps import claim_round, read_mark
from models.errors import Unavailable
from models.sweeping import FOLDER_COUNT, folder_at, folder_of
from services.metrics import OBJECTS_SWEPT
from services.sweeper import Sweeper
from tests.gallery.conftest import add_picture, add_video
from tests.support.s3 import BUCKET, s3_variables

from .test_keeper import ends, make_outputs
from .world import World, until

OLD_S, YOUNG_S = 3 * 3600.0, 3600.0
SHAS = [f"ab{number:062x}" for number in range(20)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the world's objects are."""
    return tmp_path / "blobs"


def age(root: Path, key: str, age_s: float = OLD_S) -> None:
    """Let an object look as if it had been put so long ago."""
    at = time.time() - age_s
    os.utime(root / key, (at, at))


async def put(world: World, root: Path, *keys: str, age_s: float = OLD_S) -> None:
    for key in keys:
        await world.blobs.put(key, b"x")
        age(root, key, age_s)


async def begin(world: World, folder: str, sweeper: Sweeper | None = None, **changed: Any) -> Sweeper:
    """Begin a round in this folder."""
    position = next(number for number in range(FOLDER_COUNT) if folder_at(number) == folder)
    await world.pool.execute("UPDATE object_sweep SET position = $1, next_at = now()", position)
    sweeper = sweeper or world.sweeper(**changed)
    assert await sweeper.tick() == 1
    return sweeper


async def sweep(world: World, *folders: str, **changed: Any) -> None:
    for folder in folders:
        await (await begin(world, folder, **changed)).hands.drain(20.0)


async def keys(world: World) -> list[str]:
    return sorted([found.key for name in ("images", "thumbnails", "videos") async for found in world.blobs.list(name)])


async def test_what_nobody_has_goes_once_it_is_old(world: World, root: Path) -> None:
    swept = OBJECTS_SWEPT.labels("images")._value.get()
    await put(world, root, *(f"images/ab/{sha}.jpg" for sha in SHAS[:5]))
    await put(world, root, f"thumbnails/ab/{SHAS[0]}.webp", f"videos/ab/{SHAS[1]}.mp4")
    await put(world, root, f"images/ab/{SHAS[5]}.jpg", age_s=YOUNG_S)
    await put(world, root, f"images/ac/ac{SHAS[0][2:]}.jpg")
    await sweep(world, "images/ab", "thumbnails/ab", "videos/ab")
    assert await keys(world) == [f"images/ab/{SHAS[5]}.jpg", f"images/ac/ac{SHAS[0][2:]}.jpg"]
    assert OBJECTS_SWEPT.labels("images")._value.get() == swept + 5
    mark = await read_mark(world.pool)
    assert mark.began_at_s is not None
    assert mark.ended_at_s is not None
    assert mark.began_at_s <= mark.ended_at_s


async def test_what_a_row_has_stays(world: World, root: Path) -> None:
    kept = [f"images/ab/{SHAS[0]}.jpg", f"thumbnails/ab/{SHAS[0]}.webp", f"videos/ab/{SHAS[1]}.mp4"]
    await put(world, root, *kept)
    await add_picture(world.pool, "p-0", sha256=SHAS[0])
    await add_video(world.pool, "v-0", sha256=SHAS[1])
    await sweep(world, "images/ab", "thumbnails/ab", "videos/ab")
    assert await keys(world) == kept
    assert (await read_mark(world.pool)).began_at_s is None


async def test_a_bucket_is_swept_like_a_folder(
    world: World, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_variables(s3_url).items():
        monkeypatch.setenv(name, value)
    world.blobs = open_blobs(f"s3://{BUCKET}/{tmp_path.name}")
    for sha in SHAS[:3]:
        await world.blobs.put(f"images/ab/{sha}.jpg", b"x")
    await add_picture(world.pool, "p-0", sha256=SHAS[1])
    await sweep(world, "images/ab")
    assert len(await keys(world)) == 3
    await sweep(world, "images/ab", grace_s=0.0, skew_s=0.0)
    assert await keys(world) == [f"images/ab/{SHAS[1]}.jpg"]


async def test_what_is_not_ours_is_left_alone(world: World, root: Path) -> None:
    strange = ["images/ab/notes.txt", f"images/ab/{SHAS[0]}.gif", f"images/ab/deep/{SHAS[1]}.jpg"]
    await put(world, root, *strange)
    await sweep(world, "images/ab")
    assert sorted([found.key async for found in world.blobs.list("images")]) == sorted(strange)


async def test_a_picture_that_two_users_have_goes_when_the_second_deletes_it(world: World, root: Path) -> None:
    key = f"images/ab/{SHAS[0]}.jpg"
    await put(world, root, key)
    await add_picture(world.pool, "p-0", user_id="ada", sha256=SHAS[0])
    await add_picture(world.pool, "q-0", user_id="ben", sha256=SHAS[0])
    assert await delete_output(world.pool, "ada", "p-0")
    await sweep(world, "images/ab")
    assert await keys(world) == [key]
    assert await delete_output(world.pool, "ben", "q-0")
    await sweep(world, "images/ab")
    assert await keys(world) == []


async def test_what_a_storing_request_may_be_about_to_have_stays_however_old(world: World, root: Path) -> None:
    """The objects are there, the fact is out, and whoever writes the rows has been away for hours."""
    before, after = f"images/ab/{SHAS[0]}.jpg", f"images/ab/{SHAS[1]}.jpg"
    await put(world, root, before, age_s=5 * 3600.0)
    await put(world, root, after, age_s=3 * 3600.0)
    await world.queue("u1", "r1", state="storing", age_s=4 * 3600)
    await sweep(world, "images/ab")
    assert await keys(world) == [after]
    await world.pool.execute("UPDATE generations SET state = 'failed', finished_at = now()")
    await sweep(world, "images/ab")
    assert await keys(world) == []


async def test_one_worker_at_a_time_has_the_round(world: World) -> None:
    claims = await asyncio.gather(*(claim_round(world.pool, every_s=60.0, flight_s=60.0) for _ in range(8)))
    assert sorted(claims, key=str) == [0, *[None] * 7]


async def test_rounds_go_through_all_folders_and_begin_again(world: World, root: Path) -> None:
    await put(world, root, f"images/ab/{SHAS[0]}.jpg", f"videos/ab/{SHAS[1]}.webm")
    sweeper = world.sweeper()
    for number in range(FOLDER_COUNT + 1):
        assert await world.pool.fetchval("SELECT position FROM object_sweep") == number % FOLDER_COUNT
        assert await sweeper.tick() == 1
        await sweeper.hands.drain(10.0)
    assert await keys(world) == []


async def test_a_round_deletes_so_many_and_comes_back_for_the_rest(
    world: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PAGE_OBJECTS": 4, "BATCH_MAX": 3, "DELETIONS_MAX": 8}.items():
        monkeypatch.setattr(f"services.sweeper.{name}", value)
    await put(world, root, *(f"images/ab/{sha}.jpg" for sha in SHAS))
    sweeper = await begin(world, "images/ab")
    left = []
    for _ in range(3):
        await sweeper.hands.drain(10.0)
        left.append(len(await keys(world)))
        assert await sweeper.tick() == 1
    await sweeper.hands.drain(10.0)
    assert left == [12, 4, 0]


class Stalling(ObjectBlobs):
    """A store at which one kind of call stands still until it is let go."""

    def __init__(self, blobs: ObjectBlobs, stalls: str) -> None:
        super().__init__(blobs._store)
        self._stalls = stalls
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def _stall(self, call: str) -> None:
        if call == self._stalls:
            self.reached.set()
            await self.go_on.wait()

    async def delete(self, key: str) -> None:
        await self._stall("delete")
        await super().delete(key)

    async def stat(self, key: str) -> Any:
        await self._stall("stat")
        return await super().stat(key)


class Again:
    """A picture that was kept and deleted, and whose very bytes another request is about to keep."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.root = root
        self.urls: list[str] = []
        self.keys: list[str] = []

    async def prepare(self) -> None:
        _, self.urls = await make_outputs(self.world, "r0", "a lake", "maya.image")
        await self.request("r0")
        async with self.world.running(self.world.keeper()):
            await ends(self.world, "completed")
        self.keys = await keys(self.world)
        assert await delete_output(self.world.pool, "u1", "p-r0-0")
        for key in self.keys:
            age(self.root, key)

    async def request(self, request_id: str) -> None:
        """Let a request wait for its keeping."""
        urls = "[" + ",".join(f'"{url}"' for url in self.urls) + "]"
        await self.world.queue("u1", request_id, state="storing", prediction_id=f"p-{request_id}", output_urls=urls)

    async def is_put_off(self, request_id: str = "r1") -> bool:
        row = await self.world.row("u1", request_id)
        return row["attempts"] > 0 and row["lease_until"] is None

    async def begin_sweep(self, stalls: str) -> tuple[Stalling, Sweeper]:
        """A sweep of the picture's folder that stands still at its first call of this kind."""
        blobs = Stalling(self.world.blobs, stalls)
        image = next(key for key in self.keys if key.startswith("images/"))
        sweeper = await begin(self.world, folder_of(image), Sweeper(self.world.pool, blobs, grace_s=7200.0))
        async with asyncio.timeout(10.0):
            await blobs.reached.wait()
        return blobs, sweeper

    async def assert_all_there(self) -> None:
        rows = await self.world.pool.fetch("SELECT image_key, thumbnail_key FROM ai_images")
        assert len(rows) == 1
        for key in rows[0]:
            assert await self.world.blobs.exists(key), key


@pytest.fixture
async def again(world: World, root: Path) -> Again:
    made = Again(world, root)
    await made.prepare()
    return made


async def test_what_is_stored_again_just_before_it_is_deleted_is_stored_once_more(again: Again) -> None:
    world = again.world
    blobs, sweeper = await again.begin_sweep("delete")
    await again.request("r1")
    async with world.running(world.keeper()):
        await until(again.is_put_off, "the keeper waits for the sweep")
        assert await world.state("u1", "r1") == "storing"
        blobs.go_on.set()
        await sweeper.hands.drain(10.0)
        await ends(world, "completed")
    await again.assert_all_there()


async def test_what_is_stored_again_before_the_last_look_is_not_deleted(again: Again) -> None:
    world = again.world
    blobs, sweeper = await again.begin_sweep("stat")
    await again.request("r1")
    async with world.running(world.keeper()):
        await until(again.is_put_off, "the keeper waits for the sweep")
        for key in again.keys:
            assert await world.blobs.exists(key), key
        swept = OBJECTS_SWEPT.labels("images")._value.get()
        blobs.go_on.set()
        await sweeper.hands.drain(10.0)
        assert OBJECTS_SWEPT.labels("images")._value.get() == swept
        await ends(world, "completed")
    await again.assert_all_there()


async def test_a_sweep_that_begins_and_ends_between_storing_and_saying_so_is_noticed(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, reached, go_on = again.world, asyncio.Event(), asyncio.Event()

    async def late_read_mark(pool: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await read_mark(pool)

    monkeypatch.setattr("services.keeper.read_mark", late_read_mark)
    blobs, sweeper = await again.begin_sweep("delete")
    await again.request("r1")
    async with world.running(world.keeper()):
        async with asyncio.timeout(10.0):
            await reached.wait()
        blobs.go_on.set()
        await sweeper.hands.drain(10.0)
        assert len(await keys(world)) == len(again.keys) - 1
        go_on.set()
        await ends(world, "completed")
    assert (await world.row("u1", "r1"))["attempts"] == 2
    await again.assert_all_there()


async def test_a_store_that_goes_away_amid_a_sweep_leaves_a_batch_that_is_waited_for(again: Again) -> None:
    """A deletion whose answer was lost may still arrive: nobody sweeps or stores there before that time is over."""
    world = again.world

    class Away(ObjectBlobs):
        async def delete(self, key: str) -> None:
            raise Unavailable("the blob store", "the answer was lost")

    image = next(key for key in again.keys if key.startswith("images/"))
    sweeper = Sweeper(world.pool, Away(world.blobs._store), grace_s=7200.0, every_s=0.0)
    await (await begin(world, folder_of(image), sweeper)).hands.drain(10.0)
    assert await claim_round(world.pool, every_s=0.0, flight_s=60.0) is None
    await again.request("r1")
    async with world.running(world.keeper()):
        await until(again.is_put_off, "the keeper waits")
        await world.pool.execute("UPDATE object_sweep SET began_at = began_at - interval '121 s'")
        await ends(world, "completed")
    await again.assert_all_there()
    assert await claim_round(world.pool, every_s=0.0, flight_s=60.0) is not None


@pytest.mark.timeout(120)
async def test_storing_deleting_and_sweeping_the_same_pictures_never_leaves_a_row_without_its_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything at once on the same few objects, without any grace: only the rules are left."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    pictures = [(await make_outputs(world, f"seed{number}", f"lake {number}", "maya.image"))[1] for number in range(2)]
    for number, urls in enumerate(pictures):
        await world.queue("u1", f"seed{number}", state="storing", prediction_id=f"s{number}", output_urls=_json(urls))
    async with world.running(world.keeper()):
        await ends(world, "completed")
    folders = sorted({folder_of(key) for key in await keys(world)})
    monkeypatch.setattr("models.sweeping._SPLITS", folders)
    for module in ("models.sweeping", "services.sweeper"):
        monkeypatch.setattr(f"{module}.FOLDER_COUNT", len(folders))
    monkeypatch.setattr("services.runner.BUSY_S", 0.001)
    monkeypatch.setattr("services.keeper.retry_delay_s", lambda *_: 0.02)
    for name in ("delete", "stat", "put"):
        monkeypatch.setattr(ObjectBlobs, name, _dawdling(getattr(ObjectBlobs, name), rng))
    swept = _swept()
    sweepers = [Sweeper(world.pool, world.blobs, grace_s=0.0, skew_s=0.05, every_s=0.0, flight_s=5.0) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.idle_s = 0.01
    lost: list[str] = []

    async def use() -> None:
        for number in range(60):
            name = f"r{number}"
            await world.queue(
                "u1", name, state="storing", prediction_id=f"p{number}", output_urls=_json(rng.choice(pictures))
            )

            async def is_completed(name: str = name) -> bool:
                return await world.state("u1", name) == "completed"

            await until(is_completed, f"{name} is completed", timeout_s=20.0)
            await asyncio.sleep(rng.random() * 0.05)
            row = await world.pool.fetchrow(
                "SELECT image_key, thumbnail_key FROM ai_images WHERE request_id = $1", name
            )
            assert row is not None
            lost.extend([f"{name}: {key}" for key in row if await world.blobs.get(key) is None])
            assert await delete_output(world.pool, "u1", f"p{number}-0")

    for number in range(2):
        assert await delete_output(world.pool, "u1", f"s{number}-0")
    async with world.running(world.keeper(), world.keeper(), *sweepers):
        await use()
    assert lost == []
    assert _swept() > swept + 10, "the sweepers had something to do"


def _json(urls: list[str]) -> str:
    return "[" + ",".join(f'"{url}"' for url in urls) + "]"


def _swept() -> float:
    return sum(float(OBJECTS_SWEPT.labels(name)._value.get()) for name in ("images", "thumbnails"))


def _dawdling(call: Callable[..., Any], rng: random.Random) -> Callable[..., Any]:
    async def slow(self: ObjectBlobs, *arguments: Any) -> Any:
        await asyncio.sleep(rng.random() * 0.01)
        answer = await call(self, *arguments)
        await asyncio.sleep(rng.random() * 0.01)
        return answer

    return slow
