"""A user's gallery: pages of pictures and videos, favourites, deletions.

Everything is asked with the user's id: what belongs to somebody else is not there. The rows themselves are written
by the step that completes a request (adapters/generations.py).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg

from adapters.postgres import Pool, connection
from adapters.queries import load_queries
from models.gallery_pages import GalleryItem, GalleryPage, GalleryQuery, Place, cursor_of, is_image_id

_sql = load_queries("gallery")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


async def read_page(pool: Pool, query: GalleryQuery) -> GalleryPage:
    """One page, newest first. Raises Unavailable."""
    after = query.after
    async with connection(pool) as held:
        rows = await held.fetch(
            _sql["page"],
            query.user_id,
            None if after is None else _EPOCH + after.at_us * _MICROSECOND,
            None if after is None else after.image_id,
            query.operation,
            query.favorites_only,
            query.limit + 1,
        )
    items = [_item(row) for row in rows[: query.limit]]
    is_last = len(rows) <= query.limit
    return GalleryPage(items, None if is_last else cursor_of(_place(items[-1])))


async def set_favorite(pool: Pool, user_id: str, image_id: str, wanted: bool | None = None) -> bool | None:
    """Make something a favourite or not, or the opposite of what it is; whether it is one now, None if it is not there.

    Raises Unavailable.
    """
    if not is_image_id(image_id):
        return None
    async with connection(pool) as held:
        is_favorite: bool | None = await held.fetchval(_sql["set_favorite"], user_id, image_id, wanted)
        return is_favorite


async def delete_output(pool: Pool, user_id: str, image_id: str) -> bool:
    """Take a picture or video out of the gallery, for ever; whether it was there.

    Its objects follow when nobody else has them: services/sweeper.py. Raises Unavailable.
    """
    if not is_image_id(image_id):
        return False
    async with connection(pool) as held:
        return bool(await held.fetchval(_sql["delete"], user_id, image_id))


def _item(row: asyncpg.Record) -> GalleryItem:
    return GalleryItem(**dict(row))


def _place(item: GalleryItem) -> Place:
    return Place((item.created_at - _EPOCH) // _MICROSECOND, item.image_id)
