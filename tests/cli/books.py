"""Clean books with one of everything, written by the real steps, without Kafka.

ada   admitted, charged: a picture, a set of four, a set with two outputs missing, one that waits; a video; a set of
      which one picture was deleted, and a video that was deleted
ben   a failure and a cancelled request, both refunded; a request too many; a model trained twice
cleo  unlimited: admitted and not charged
dora  granted, spent nothing
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from adapters.postgres import Connection
from adapters.queries import load_queries
from agents.admit import AdmitStep
from agents.gallery import GalleryStep
from agents.generate import GenerateStep
from agents.grants import GrantsStep
from agents.settle import SettleStep
from models.facts import ImagesStored, MissingImage, PredictionUpdated, StoredImage
from streams.delivery import Batch
from tests.unit.records import FakeRecord, request_value


async def write_clean_books(connection: Connection) -> None:
    """Grant, admit, queue, settle and complete."""
    books = _Books(connection)
    for user_id, amount in (("ada", 50), ("ben", 100), ("cleo", 5), ("dora", 7)):
        grant = {"grant_id": f"grant-{user_id}", "user_id": user_id, "amount": amount, "kind": "purchase"}
        await books.step(GrantsStep(1), user_id, grant)
    await connection.execute("UPDATE accounts SET unlimited = true WHERE user_id = 'cleo'")

    await books.admit("ada", "picture", "maya.image")
    await books.admit("ada", "set", "studio.images")
    await books.admit("ada", "short", "studio.images")
    await books.admit("ada", "waiting", "maya.image")
    await books.admit("ada", "thinned", "studio.images")
    for name in ("video", "gone"):
        await books.admit("ada", name, "video.animation", options={"image_url": "http://pictures/first.jpg"})
    await books.admit("ben", "failed", "studio.images")
    await books.admit("ben", "cancelled", "maya.image")
    for number in range(31):
        await books.admit("ben", f"many{number}", "feed.post")
    await books.admit("cleo", "free", "maya.image")

    await books.admit("ben", "model", "training.model")
    await books.admit("ben", "newer", "training.model")

    await books.complete("ada", "picture", present=1)
    await books.complete("ada", "set", present=4)
    await books.complete("ada", "short", present=2, missing=2)
    await books.complete("ada", "thinned", present=4)
    for name in ("video", "gone"):
        await books.complete("ada", name, present=1, content_type="video/mp4")
    for image_id in ("p-ada-thinned-1", "p-ada-gone-0"):
        await connection.execute(load_queries("gallery")["delete"], "ada", image_id)
    await books.complete("cleo", "free", present=1)
    for number in range(31):
        await books.complete("ben", f"many{number}", present=1)
    await books.settle("ben", "failed", "failed")
    await books.settle("ben", "cancelled", "canceled")
    for request_id in ("newer", "model"):
        await books.settle("ben", request_id, "succeeded", {"version": f"darkroom/portraits:{request_id}"})
    # A letter that was redriven, came back, was redriven again, came back and was dropped.
    await connection.executemany(
        "INSERT INTO dead_letter_actions (action_id, letter_id, root_id, kind, attempt, reason, content, acted_by,"
        " note, to_topic, to_partition, to_offset)"
        " VALUES ($1, $2, 'in/0/7', $3, $4, 'bad_json', 'c', 'me', $5, $6, 0, $7)",
        [
            ("first", "in/0/7", "redriven", 1, "", "in", 8),
            ("second", "in/0/8", "redriven", 2, "", "in", 9),
            ("third", "in/0/9", "dropped", 2, "hopeless", None, None),
        ],
    )
    await connection.execute("INSERT INTO stream_progress (stream, partition, next_offset) VALUES ('admit', 0, 40)")


class _Books:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._now_ms = int(time.time() * 1000)
        self._windows: Any = None

    async def step(self, step: Any, user_id: str, body: object) -> None:
        value = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self._now_ms += 1
        record = FakeRecord(value, user_id.encode(), timestamp=self._now_ms)
        async with self._connection.transaction():
            if self._windows is None:
                self._windows = await AdmitStep(1).load(self._connection, 0, self._now_ms)
            batch = Batch(0, [record], [step.read(record)], self._windows, self._now_ms)
            await step.apply(self._connection, batch)

    async def admit(self, user_id: str, request_id: str, operation: str, **fields: object) -> None:
        if operation == "training.model":
            fields["options"] = {"images": ["http://x/1.jpg"] * 5}
        await self.step(AdmitStep(1), user_id, request_value(request_id, user_id, operation=operation, **fields))
        await self.step(GenerateStep(), user_id, {"request_id": request_id, "user_id": user_id})

    async def settle(self, user_id: str, request_id: str, status: str, output: Any = ()) -> None:
        name = f"p-{user_id}-{request_id}"
        fact = PredictionUpdated(request_id, user_id, status, "webhook", name, {"output": output})
        await self.step(SettleStep(), user_id, fact)

    async def complete(
        self, user_id: str, request_id: str, *, present: int, missing: int = 0, content_type: str = "image/jpeg"
    ) -> None:
        urls = [f"http://provider/{number}" for number in range(present + missing)]
        await self.settle(user_id, request_id, "succeeded", urls)
        images = [
            StoredImage(index, f"i/{request_id}/{index}", f"t/{request_id}/{index}", 8, 8, content_type, 9, "00")
            for index in range(present)
        ]
        lost = [MissingImage(index, "expired") for index in range(present, present + missing)]
        fact = ImagesStored(request_id, user_id, f"p-{user_id}-{request_id}", images, lost)
        await self.step(GalleryStep("http://gateway/"), user_id, fact)
