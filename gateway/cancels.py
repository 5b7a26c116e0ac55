"""Stopping a request: the wish becomes a command on Kafka, and only then an answer."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from adapters.postgres import Pool
from adapters.reads import read_state
from gateway.access import Caller
from gateway.bounds import READ_TIMEOUT_S, Places, in_time, within
from gateway.generation_reads import unknown, view_of
from gateway.parameters import RequestId, User
from gateway.problems import AT_EVERY_DOOR, Problem, problems
from gateway.schemas import Cancelling
from models.generation_views import UNDECIDED_STATE, has_ended
from models.lifecycle import State
from streams.producer import Producer, new_cancel

PUBLISH_TIMEOUT_S = 2.5
PUBLISHING_MAX = 500
UNDECIDED_RETRY_S = 1

router = APIRouter(tags=["generations"])
_publishing = Places(PUBLISHING_MAX, "Kafka")


@router.delete(
    "/v1/generations/{request_id}",
    status_code=202,
    summary="Stop a request",
    responses={
        202: {
            "headers": {"Location": {"schema": {"type": "string"}, "description": "Where to see what becomes of it."}}
        },
        **problems(*AT_EVERY_DOOR, "not_found", "already_ended", "undecided"),
    },
)
async def cancel_generation(
    request: Request, response: Response, caller: Caller, request_id: RequestId, user: User
) -> Cancelling:
    """Answered once the wish is on Kafka. A request whose outputs are being stored already may still complete; what
    is cancelled is refunded. Asking again is safe."""
    user_id = caller.acts_for(user)
    state = await _state(request, user_id, request_id)
    if state != State.CANCELLED:
        if has_ended(state):
            raise Problem(409, "already_ended", f"the request is {state}", extra={"state": state})
        producer: Producer = request.app.state.producer
        wish = new_cancel(user_id, request_id)
        # A wish that is late is not taken back: it may still arrive, which does no harm.
        await in_time(
            producer.cancel(wish, timeout_s=PUBLISH_TIMEOUT_S), _publishing, PUBLISH_TIMEOUT_S, "the event log"
        )
    query = "" if caller.user_id is not None else f"?user={quote(user_id)}"
    response.headers["location"] = f"/v1/generations/{quote(request_id)}{query}"
    return Cancelling.model_validate({"request_id": request_id, "user_id": user_id, "state": state})


async def _state(request: Request, user_id: str, request_id: str) -> str:
    """The state of an admitted request. Raises Problem: there is none that could be cancelled."""
    pool: Pool = request.app.state.pool
    async with within(READ_TIMEOUT_S, "Postgres"):
        state = await read_state(pool, user_id, request_id)
    if state is not None:
        return state
    view = await view_of(request, user_id, request_id)
    if view is None:
        raise unknown(request_id)
    if view["state"] == UNDECIDED_STATE:
        headers = {"retry-after": str(UNDECIDED_RETRY_S)}
        raise Problem(409, "undecided", "the request is not decided yet; try again", headers)
    if view["state"] == "rejected":
        raise Problem(409, "already_ended", "the request was rejected", extra={"state": "rejected"})
    return str(view["state"])
