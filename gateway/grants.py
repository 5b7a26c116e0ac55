"""Credits given over HTTP: after a purchase, by whoever holds the books of money.

Writes:     credits.granted.v1
Guarantees: the grant's id is the client's or made here, and in the answer; the same id again is booked once.
Fails:      503 within 3 s while Kafka is away.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from gateway.access import Caller
from gateway.bodies import read_json_object
from gateway.problems import problems, unavailable
from gateway.request_bodies import GRANT_BODY
from gateway.requests import AWAY_S
from gateway.schemas import GrantTaken
from models.errors import Unavailable, WrongUse
from models.grants import read_grant
from models.http_fields import idempotency_key_of
from models.requests import Unreadable
from streams.producer import Producer, new_id

router = APIRouter()


@router.post(
    "/v1/grants",
    status_code=202,
    summary="Give a user credits",
    response_model=GrantTaken,
    responses=problems(
        "bad_body", "unauthorized", "forbidden", "too_slow", "too_large", "invalid", "too_many_requests", "unavailable"
    ),
    openapi_extra=GRANT_BODY,
)
async def grant_credits(
    request: Request,
    caller: Caller,
    idempotency_key: Annotated[str | None, Header(description="The grant's id; the same again is booked once.")] = None,
) -> Response:
    """Answered once the grant is on Kafka; the balance follows as soon as it is booked."""
    caller.grants()
    body: dict[str, Any] = await read_json_object(request)
    grant_id = _grant_id(idempotency_key_of(idempotency_key), body.get("grant_id"))
    user_id = body.get("user_id")
    wanted = {
        "grant_id": grant_id,
        "user_id": user_id,
        "amount": body.get("amount"),
        "kind": body.get("kind", "purchase"),
    }
    grant = read_grant(user_id.encode() if isinstance(user_id, str) else None, msgspec.json.encode(wanted))
    if isinstance(grant, Unreadable):
        raise WrongUse(grant.error)
    producer: Producer = request.app.state.producer
    try:
        place = await producer.grant(grant, timeout_s=AWAY_S)
    except Unavailable:
        # It may have arrived: sent again under another id it could be booked twice.
        problem = unavailable("the event log is not available; send the same grant again under this id")
        problem.extra["grant_id"] = grant.grant_id
        raise problem from None
    return JSONResponse({**wanted, "partition": place.partition, "offset": place.offset}, 202)


def _grant_id(key: str | None, in_body: object) -> object:
    """The id that the client gave, or one made here if it gave none. Raises WrongUse: it gave two."""
    if key is not None and in_body not in (None, key):
        raise WrongUse("grant_id: must be the same as Idempotency-Key")
    given = key if key is not None else in_body
    return new_id("grant") if given is None else given
