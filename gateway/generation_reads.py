"""What became of a request, and its whole timeline."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from adapters.postgres import Pool, connection
from adapters.reads import owner_of_request, read_generation
from adapters.timeline import read_kept
from gateway.access import Caller
from gateway.bounds import READ_TIMEOUT_S, Places, within
from gateway.parameters import RequestId, User
from gateway.problems import AT_EVERY_DOOR, Problem, problems
from gateway.schemas import Generation, Timeline
from gateway.searching import Searches
from models.generation_views import view_of_asked, view_of_rejection, view_of_row
from models.timeline import build
from models.timeline_document import owner_in, scan_start_ms, timeline_document
from models.topics import REJECTED, REQUESTED

router = APIRouter(tags=["generations"])

FULL_SCANS_MAX = 2
_full_scans = Places(FULL_SCANS_MAX, "a search by request id alone")


@router.get(
    "/v1/generations/{request_id}",
    summary="What became of a request",
    responses=problems(*AT_EVERY_DOOR, "not_found", "ambiguous"),
    response_model_exclude_none=True,
)
async def get_generation(request: Request, caller: Caller, request_id: RequestId, user: User) -> Generation:
    """From its row; one that was never admitted, from the last hour's events.

    Without `user`, a token for all users finds a request by its id alone, which takes longer.
    """
    view = await view_of(request, caller.reads_of(user), request_id)
    if view is None:
        raise unknown(request_id)
    return Generation.model_validate(view)


@router.get(
    "/v1/generations/{request_id}/timeline",
    summary="Everything that is known of a request, in order of time",
    responses=problems(*AT_EVERY_DOOR, "not_found", "ambiguous"),
)
async def get_timeline(request: Request, caller: Caller, request_id: RequestId, user: User) -> Timeline:
    """Events with topic, partition, offset and time; ledger entries; the provider's work; rows. For people who look
    into something: it reads the topics."""
    user_id = caller.reads_of(user)
    pool: Pool = request.app.state.pool
    if user_id is None:
        user_id = await _owner(pool, request_id)
    async with within(READ_TIMEOUT_S, "Postgres"), connection(pool) as held:
        kept = await read_kept(held, request_id, user_id)
    searches: Searches = request.app.state.searches
    events, is_complete = await searches.events(request_id, user_id, scan_start_ms(kept.row))
    owner_in(request_id, events, user_id)
    moments = build(events, kept.row, kept.ledger, kept.images)
    if not moments:
        raise unknown(request_id)
    return Timeline.model_validate(
        timeline_document(request_id, kept.row, kept.ledger, kept.images, events, moments, is_complete=is_complete)
    )


async def view_of(request: Request, user_id: str | None, request_id: str) -> dict[str, Any] | None:
    """A request as gateway/schemas.py shows it, None if nothing is known of it. Raises Unavailable, Ambiguous."""
    pool: Pool = request.app.state.pool
    if user_id is None:
        user_id = await _owner(pool, request_id)
    if user_id is not None:
        found = await _row_of(pool, user_id, request_id)
        known = _remembered(request, user_id, request_id) if found is None else None
        if known is not None and known["type"] == REJECTED:
            return view_of_rejection(known)
        if known is not None:
            # It may have been admitted after the first look.
            found = await _row_of(pool, user_id, request_id)
        if found is not None:
            return view_of_row(found)
        if known is not None and known["type"] == REQUESTED:
            return view_of_asked(known)
    searches: Searches = request.app.state.searches
    return await searches.view_of_undecided(request_id, user_id)


async def _row_of(pool: Pool, user_id: str, request_id: str) -> dict[str, Any] | None:
    async with within(READ_TIMEOUT_S, "Postgres"):
        return await read_generation(pool, user_id, request_id)


def _remembered(request: Request, user_id: str, request_id: str) -> dict[str, Any] | None:
    """The last decision about a request that the gateway's own reader of Kafka has seen, if it is still known."""
    hub = getattr(request.app.state, "hub", None)
    known: dict[str, Any] | None = None if hub is None else hub.recent(user_id, request_id)
    return known


async def _owner(pool: Pool, request_id: str) -> str | None:
    with _full_scans.one():
        async with within(READ_TIMEOUT_S, "Postgres"):
            return await owner_of_request(pool, request_id)


def unknown(request_id: str) -> Problem:
    """404."""
    return Problem(404, "not_found", f"no request {request_id} is known")
