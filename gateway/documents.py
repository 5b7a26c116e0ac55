"""/asyncapi.json: what comes and goes on Kafka, for machines. Made once a process; it needs no token."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Request, Response

from models.asyncapi import document_json

router = APIRouter()

_document_json = cache(document_json)


@router.get(
    "/asyncapi.json",
    summary="The events on Kafka, as an AsyncAPI 3.0 document",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def asyncapi(request: Request) -> Response:
    """With the partition count of this deployment."""
    partitions: int = request.app.state.partitions
    return Response(
        _document_json(partitions), media_type="application/json", headers={"cache-control": "public, max-age=300"}
    )
