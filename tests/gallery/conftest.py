"""A database of the test's own with a pool, and galleries filled by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from adapters.postgres import Pool

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database, min_size=0, max_size=8) as made:
        yield made


async def add_picture(
    pool: Pool,
    image_id: str,
    *,
    user_id: str = "ada",
    operation: str = "maya.image",
    at: datetime = NOON,
    sha256: str = "ab" + "0" * 62,
) -> None:
    """A picture in a gallery, as the completing step writes it."""
    prediction_id, _, index = image_id.rpartition("-")
    await pool.execute(
        "INSERT INTO ai_images (image_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,"
        " image_key, thumbnail_key, image_url, thumbnail_url, width, height, content_type, bytes, sha256, created_at)"
        " VALUES ($1, $2, 'r-' || $3, $3, $4, $5, 'maya_chat', 'a lake', $6, $7, 'http://p/' || $6, 'http://p/' || $7,"
        " 800, 600, 'image/jpeg', 99, $8, $9)",
        *(image_id, user_id, prediction_id, int(index), operation),
        *(f"images/{sha256[:2]}/{sha256}.jpg", f"thumbnails/{sha256[:2]}/{sha256}.webp", sha256, at),
    )


async def add_video(
    pool: Pool, video_id: str, *, user_id: str = "ada", at: datetime = NOON, sha256: str = "cd" + "0" * 62
) -> None:
    """A video in a gallery."""
    prediction_id, _, index = video_id.rpartition("-")
    await pool.execute(
        "INSERT INTO videos (video_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,"
        " video_key, video_url, width, height, content_type, bytes, sha256, created_at)"
        " VALUES ($1, $2, 'r-' || $3, $3, $4, 'video.animation', 'video', 'a lake', $5, 'http://p/' || $5, 0, 0,"
        " 'video/mp4', 99, $6, $7)",
        *(video_id, user_id, prediction_id, int(index), f"videos/{sha256[:2]}/{sha256}.mp4", sha256, at),
    )
