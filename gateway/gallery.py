"""A user's gallery: pages, favourites, deletions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from adapters.gallery import delete_output, read_page, set_favorite
from adapters.postgres import Pool
from gateway.access import Caller
from gateway.bounds import READ_TIMEOUT_S, within
from gateway.parameters import User
from gateway.problems import AT_EVERY_DOOR, Problem, problems
from gateway.schemas import Favorite, FavoriteWish, GalleryEntries
from models.gallery_pages import (
    CURSOR_CHARACTERS_MAX,
    IMAGE_ID_PATTERN,
    PAGE_DEFAULT,
    PAGE_MAX,
    GalleryQuery,
    place_of,
)
from models.timeline_document import plain_row

router = APIRouter(tags=["gallery"])

ImageId = Annotated[str, Path(pattern=IMAGE_ID_PATTERN.replace(r"\Z", "$"))]


@router.get("/v1/gallery", summary="A user's pictures and videos, newest first", responses=problems(*AT_EVERY_DOOR))
async def get_gallery(
    request: Request,
    caller: Caller,
    user: User,
    cursor: Annotated[
        str | None, Query(max_length=CURSOR_CHARACTERS_MAX, description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    operation: Annotated[str | None, Query(description="Only what this operation made.")] = None,
    favorites: Annotated[bool, Query(description="Favourites only.")] = False,
) -> GalleryEntries:
    """Pages neither repeat nor skip what was there from the beginning, whatever comes or goes meanwhile."""
    after = None if cursor is None else place_of(cursor)
    query = GalleryQuery(caller.reads_one(user), limit, after, operation, favorites)
    pool: Pool = request.app.state.pool
    async with within(READ_TIMEOUT_S, "Postgres"):
        page = await read_page(pool, query)
    items = [plain_row(item) for item in page.items]
    return GalleryEntries.model_validate({"items": items, "next_cursor": page.next_cursor})


@router.post(
    "/v1/gallery/{image_id}/favorite",
    summary="Make a picture or video a favourite, or not",
    responses=problems(*AT_EVERY_DOOR, "not_found"),
)
async def post_favorite(
    request: Request, caller: Caller, image_id: ImageId, user: User, wish: FavoriteWish | None = None
) -> Favorite:
    """Without a body it becomes the opposite of what it is."""
    user_id = caller.acts_for(user)
    pool: Pool = request.app.state.pool
    wanted = None if wish is None else wish.favorite
    async with within(READ_TIMEOUT_S, "Postgres"):
        is_favorite = await set_favorite(pool, user_id, image_id, wanted)
    if is_favorite is None:
        raise _unknown()
    return Favorite(image_id=image_id, is_favorite=is_favorite)


@router.delete(
    "/v1/gallery/{image_id}",
    status_code=204,
    summary="Take a picture or video out of the gallery, for ever",
    responses=problems(*AT_EVERY_DOOR, "not_found"),
)
async def delete_image(request: Request, caller: Caller, image_id: ImageId, user: User) -> Response:
    """It is gone at once; its file follows when nobody else has it."""
    user_id = caller.acts_for(user)
    pool: Pool = request.app.state.pool
    async with within(READ_TIMEOUT_S, "Postgres"):
        was_there = await delete_output(pool, user_id, image_id)
    if not was_there:
        raise _unknown()
    return Response(status_code=204)


def _unknown() -> Problem:
    return Problem(404, "not_found", "there is no such picture or video in this gallery")
