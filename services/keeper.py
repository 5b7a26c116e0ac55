"""Keeper: copy outputs to our storage before they vanish, pictures with thumbnails, and say so.

Content-addressed and deterministic: keeping a request's outputs again writes the same objects and publishes the same
fact, so a crash anywhere costs nothing but the time. A sweep that goes on meanwhile is noticed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import structlog

from adapters.blobs import Blobs
from adapters.downloads import Downloads
from adapters.pictures import read_picture
from adapters.postgres import Pool, transaction
from adapters.spool import Spool
from adapters.sweeps import read_mark
from adapters.videos import read_video
from adapters.work import claim_storing, put_off_storing, renew_storing
from models.errors import Unavailable
from models.facts import ImagesStored, MissingImage, StoredImage
from models.operations import OPERATIONS, Kind
from models.pictures import OUTPUTS_MAX, OutputLost, StoringWork
from models.provider_work import outputs_expected, retry_delay_s
from models.sweeping import Crossing
from services.hands import Hands
from services.metrics import KEEP_SECONDS, OUTPUTS
from streams.crash_points import crash_point
from streams.facts import FactPublisher

log = structlog.get_logger()

AT_ONCE_MAX = 24
DOWNLOADS_AT_ONCE_MAX = 16
DECODERS = 2
VIDEOS_AT_ONCE_MAX = 3
OUTPUT_TIMEOUT_S = 45.0
VIDEO_TIMEOUT_S = 240.0
# Short, so that a killed worker's requests are not kept waiting, and renewed while the work is in hand.
LEASE_S = 15.0
TRIES_MAX = 60
OUTPUTS_LIVE_S = 3600.0
GALLERY_GRACE_S = 600.0
HAND_BACK_TIMEOUT_S = 2.0


class Keeper:
    """Claims, downloads, stores, reports. A request is tried again for as long as its outputs may live."""

    name = "keeper"
    idle_s = 0.2

    def __init__(
        self,
        pool: Pool,
        blobs: Blobs,
        downloads: Downloads,
        facts: FactPublisher,
        *,
        tries_max: int = TRIES_MAX,
        outputs_live_s: float = OUTPUTS_LIVE_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self.hands = Hands(self.name, AT_ONCE_MAX)
        self._pool = pool
        self._blobs = blobs
        self._downloads = downloads
        self._facts = facts
        self._tries_max = tries_max
        self._outputs_live_s = outputs_live_s
        self._lease_s = lease_s
        self._renewed_at = time.monotonic()
        self._in_hand: dict[tuple[str, str], StoringWork] = {}
        self._at_once = asyncio.Semaphore(DOWNLOADS_AT_ONCE_MAX)
        self._videos_at_once = asyncio.Semaphore(VIDEOS_AT_ONCE_MAX)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="pictures")

    async def tick(self) -> int:
        """Claim what is due and begin to keep it; returns how much. Raises Unavailable."""
        free = await self.hands.wait_free(1, self.idle_s)
        await self._renew()
        if free <= 0:
            return 0
        async with transaction(self._pool) as held:
            works = await claim_storing(held, wanted=free, lease_s=self._lease_s)
        if works:
            crash_point(self.name, 1)  # leased, nothing downloaded: due again when the lease is over
        for work in works:
            self.hands.take(self._keep(work))
        return len(works)

    def close(self) -> None:
        """Let the decoding threads go."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def _renew(self) -> None:
        if self._in_hand and time.monotonic() - self._renewed_at > self._lease_s / 3:
            await renew_storing(self._pool, self._in_hand.values(), lease_s=self._lease_s)
            self._renewed_at = time.monotonic()

    async def _keep(self, work: StoringWork) -> None:
        began = time.monotonic()
        self._in_hand[work.user_id, work.request_id] = work
        try:
            images, missing, trouble = await self._keep_outputs(work)
            if trouble is not None:
                await self._put_off(work, trouble)
                return
            await self._ensure_unswept(work, images)
            crash_point(self.name, 2)  # objects without a fact: stored again under the same keys
            fact = ImagesStored(work.request_id, work.user_id, work.prediction_id, images, missing)
            await self._facts.stored(fact, work.traceparent)
            crash_point(self.name, 3)  # published, the lease still stands: at worst the same fact once more
            await put_off_storing(self._pool, work, delay_s=GALLERY_GRACE_S)
            KEEP_SECONDS.observe(time.monotonic() - began)
        except asyncio.CancelledError:
            await self._hand_back(work)
            raise
        except Unavailable as error:
            await self._put_off(work, str(error))
        finally:
            self._in_hand.pop((work.user_id, work.request_id), None)

    async def _keep_outputs(self, work: StoringWork) -> tuple[list[StoredImage], list[MissingImage], str | None]:
        """(kept, definitely lost, why it should be tried again)."""
        expected = outputs_expected(work.operation, work.options) or min(len(work.output_urls), OUTPUTS_MAX)
        urls = {index: url for index, url in enumerate(work.output_urls[:expected]) if url}
        is_last_try = work.attempt >= self._tries_max or work.age_s >= self._outputs_live_s
        images: list[StoredImage] = []
        missing = [MissingImage(index, "not_delivered") for index in range(expected) if index not in urls]
        trouble: str | None = None
        keep = self._keep_video if _makes_videos(work) else self._keep_picture
        results = await asyncio.gather(*(keep(index, url) for index, url in urls.items()), return_exceptions=True)
        for index, result in zip(urls, results, strict=True):
            if isinstance(result, StoredImage):
                images.append(result)
            elif isinstance(result, OutputLost):
                missing.append(MissingImage(index, result.reason))
            elif isinstance(result, Unavailable) and is_last_try:
                missing.append(MissingImage(index, "unreachable"))
            elif isinstance(result, Unavailable):
                trouble = str(result)
            else:
                raise result
        if trouble is None:
            self._count(work, images, missing)
        return images, sorted(missing, key=lambda one: one.output_index), trouble

    async def _keep_picture(self, index: int, url: str) -> StoredImage:
        async with self._at_once, _within(OUTPUT_TIMEOUT_S):
            data = await self._downloads.picture(url)
            picture = await asyncio.get_running_loop().run_in_executor(self._decoders, read_picture, data)
            # The picture last: who finds it finds its thumbnail too.
            await self._blobs.put(picture.thumbnail_key, picture.thumbnail)
            await self._blobs.put(picture.key, data)
        return StoredImage(
            output_index=index,
            key=picture.key,
            thumbnail_key=picture.thumbnail_key,
            width=picture.width,
            height=picture.height,
            content_type=picture.content_type,
            bytes=len(data),
            sha256=picture.sha256,
        )

    async def _keep_video(self, index: int, url: str) -> StoredImage:
        async with self._videos_at_once, _within(VIDEO_TIMEOUT_S), Spool() as spool:
            await self._downloads.video(url, spool.take)
            file, sha256 = await spool.whole()
            video = await asyncio.to_thread(read_video, file, spool.size_bytes, sha256)
            await self._blobs.put_file(video.key, file)
        return StoredImage(
            output_index=index,
            key=video.key,
            thumbnail_key="",
            width=video.width,
            height=video.height,
            content_type=video.content_type,
            bytes=spool.size_bytes,
            sha256=sha256,
        )

    async def _ensure_unswept(self, work: StoringWork, images: list[StoredImage]) -> None:
        """See models/sweeping.py. Raises Unavailable: an object may be gone, and is stored again at the next try."""
        keys = [key for image in images for key in (image.key, image.thumbnail_key) if key]
        crossing = (await read_mark(self._pool)).crossing(keys, work.storing_at_s)
        if crossing is Crossing.WAIT:
            raise Unavailable("the outputs' folder", "it is being swept")
        if crossing is Crossing.LOOK and not all(await asyncio.gather(*map(self._blobs.exists, keys))):
            raise Unavailable("an output", "it was swept while it was stored")

    async def _put_off(self, work: StoringWork, why: str) -> None:
        delay_s = retry_delay_s(work.attempt, random.random())  # noqa: S311
        log.info("keeping put off", user=work.user_id, request=work.request_id, why=why, delay_s=round(delay_s, 1))
        OUTPUTS.labels("put_off").inc()
        try:
            await put_off_storing(self._pool, work, delay_s=delay_s)
        except Unavailable as error:
            log.warning("the lease runs out by itself", request=work.request_id, why=str(error))

    async def _hand_back(self, work: StoringWork) -> None:
        """The worker stops: another one need not wait for the lease."""
        try:
            async with asyncio.timeout(HAND_BACK_TIMEOUT_S):
                await put_off_storing(self._pool, work, delay_s=0.0)
        except (Unavailable, TimeoutError) as error:
            log.warning("the lease runs out by itself", request=work.request_id, why=str(error))

    def _count(self, work: StoringWork, images: list[StoredImage], missing: list[MissingImage]) -> None:
        OUTPUTS.labels("stored").inc(len(images))
        for lost in missing:
            OUTPUTS.labels(lost.reason).inc()
            log.warning("output lost", request=work.request_id, output_index=lost.output_index, reason=lost.reason)


def _makes_videos(work: StoringWork) -> bool:
    operation = OPERATIONS.get(work.operation)
    return operation is not None and operation.kind is Kind.VIDEO


@asynccontextmanager
async def _within(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise Unavailable("keeping an output", f"it took more than {timeout_s:.0f} s") from error
