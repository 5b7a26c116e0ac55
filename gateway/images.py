"""Stored pictures and videos, straight from the blob store. A key names its content, so what is cached is right for
ever. Players ask for a video in ranges, and some show none that cannot be had so. A store on S3 is asked by the client
itself, with a link that is good for some minutes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from adapters.blobs import CACHE_CONTROL, Blobs, OpenBlob, Span
from gateway.metrics import IMAGES_SERVED
from gateway.problems import Problem, problems
from models.errors import Unavailable
from models.pictures import content_type_of_key

log = structlog.get_logger()

router = APIRouter(tags=["files"])

LINK_S = 300
# A redirect may be kept for less long than its link is good.
LINK_HEADERS = {"cache-control": "private, max-age=240", "referrer-policy": "no-referrer"}

_FILE = {"schema": {"type": "string", "format": "binary"}}
CONTENT = {"image/*": _FILE, "video/*": _FILE}

# No object is so large that its places have more digits.
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})\Z", re.ASCII)


@router.head("/v1/images/{key:path}", include_in_schema=False)
@router.get(
    "/v1/images/{key:path}",
    summary="A stored picture, thumbnail or video",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The file.", "content": CONTENT},
        206: {"description": "The range of it that was asked for.", "content": CONTENT},
        304: {"description": "Whoever asks has it."},
        307: {
            "description": "The store gives it out itself, by a link that is good for some minutes.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        416: {
            "description": "The file has no such range.",
            "headers": {"Content-Range": {"schema": {"type": "string"}}},
        },
        **problems("not_found", "unavailable"),
    },
)
async def get_image(request: Request, key: str) -> Response:
    """`key` is one of ours (images/…, thumbnails/… or videos/…); anything else is 404."""
    content_type = content_type_of_key(key)
    if content_type is None:
        IMAGES_SERVED.labels("not_found").inc()
        raise _not_found()
    headers = {
        "etag": f'"{key.replace("/", "-")}"',
        "cache-control": CACHE_CONTROL,
        "x-content-type-options": "nosniff",
    }
    if _knows(request, headers["etag"]):
        IMAGES_SERVED.labels("not_modified").inc()
        return Response(status_code=304, headers=headers)
    blobs: Blobs = request.app.state.blobs
    if request.app.state.signed_links:
        link = await blobs.signed_url(key, "HEAD" if request.method == "HEAD" else "GET", LINK_S)
        if link is not None:
            IMAGES_SERVED.labels("linked").inc()
            return RedirectResponse(link, 307, LINK_HEADERS)
    headers["accept-ranges"] = "bytes"
    asked = request.headers.get("range") if request.method == "GET" and _may_be_partial(request, headers) else None
    if asked is not None:
        return await _answer_range(blobs, key, asked, headers, content_type)
    blob = await blobs.open(key)
    if blob is None:
        IMAGES_SERVED.labels("not_found").inc()
        raise _not_found()
    IMAGES_SERVED.labels("served").inc()
    headers["content-length"] = str(blob.size_bytes)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=content_type)
    return StreamingResponse(_parts(key, blob), headers=headers, media_type=content_type)


async def _answer_range(blobs: Blobs, key: str, asked: str, headers: dict[str, str], content_type: str) -> Response:
    """One span of an object; what cannot be understood is answered with the whole of it, as the standard says."""
    found = await blobs.stat(key)
    span = span_of(asked, found.size_bytes) if found is not None else None
    if found is not None and span is not None and span.begin >= span.end:
        IMAGES_SERVED.labels("no_such_range").inc()
        return Response(status_code=416, headers={"content-range": f"bytes */{found.size_bytes}"})
    blob = await blobs.open(key, span) if found is not None else None
    if found is None or blob is None:
        IMAGES_SERVED.labels("not_found").inc()
        raise _not_found()
    IMAGES_SERVED.labels("served").inc()
    headers["content-length"] = str(blob.size_bytes)
    if span is not None:
        headers["content-range"] = f"bytes {span.begin}-{span.end - 1}/{found.size_bytes}"
    status = 200 if span is None else 206
    return StreamingResponse(_parts(key, blob), status, headers=headers, media_type=content_type)


def span_of(asked: str, size_bytes: int) -> Span | None:
    """The span that a Range header asks for, empty when there is none such; None when it asks for anything else."""
    match = _RANGE.match(asked)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return Span(max(0, size_bytes - int(match[2])), size_bytes)
    begin, end = int(match[1]), int(match[2]) + 1 if match[2] else size_bytes
    if end <= begin and match[2]:
        return None
    return Span(begin, min(end, size_bytes))


async def _parts(key: str, blob: OpenBlob) -> AsyncIterator[bytes]:
    try:
        async for part in blob.parts():
            yield part
    except Unavailable as error:
        # The status is out already: the answer stays short of its length, which clients notice.
        log.warning("picture broke off", key=key, why=str(error))


def _may_be_partial(request: Request, headers: dict[str, str]) -> bool:
    return request.headers.get("if-range", headers["etag"]) == headers["etag"]


def _knows(request: Request, etag: str) -> bool:
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    return etag in known or "*" in known


def _not_found() -> Problem:
    return Problem(404, "not_found", "there is no such picture")
