"""Stored pictures, straight from the blob store. A key names its content, so what is cached is right for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from adapters.blobs import Blobs, OpenBlob
from gateway.metrics import IMAGES_SERVED
from gateway.problems import Problem
from models.errors import Unavailable
from models.pictures import content_type_of_key

log = structlog.get_logger()

router = APIRouter()


@router.head("/v1/images/{key:path}", include_in_schema=False)
@router.get("/v1/images/{key:path}", summary="A stored picture or thumbnail", response_class=StreamingResponse)
async def get_image(request: Request, key: str) -> Response:
    """`key` is one of ours (images/… or thumbnails/…); anything else is 404."""
    content_type = content_type_of_key(key)
    if content_type is None:
        IMAGES_SERVED.labels("not_found").inc()
        raise _not_found()
    headers = {
        "etag": f'"{key.replace("/", "-")}"',
        "cache-control": "public, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
    }
    if _knows(request, headers["etag"]):
        IMAGES_SERVED.labels("not_modified").inc()
        return Response(status_code=304, headers=headers)
    blobs: Blobs = request.app.state.blobs
    blob = await blobs.open(key)
    if blob is None:
        IMAGES_SERVED.labels("not_found").inc()
        raise _not_found()
    IMAGES_SERVED.labels("served").inc()
    headers["content-length"] = str(blob.size_bytes)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=content_type)
    return StreamingResponse(_parts(key, blob), headers=headers, media_type=content_type)


async def _parts(key: str, blob: OpenBlob) -> AsyncIterator[bytes]:
    try:
        async for part in blob.parts():
            yield part
    except Unavailable as error:
        # The status is out already: the answer stays short of its length, which clients notice.
        log.warning("picture broke off", key=key, why=str(error))


def _knows(request: Request, etag: str) -> bool:
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    return etag in known or "*" in known


def _not_found() -> Problem:
    return Problem(404, "not_found", "there is no such picture")
