"""Short-lived tokens: for a user's own client, and for a browser's event stream."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StrictInt

from gateway.access import Caller
from gateway.problems import problems
from gateway.tokens import TokenBook
from models.access import Forbidden, Scope
from models.tokens import USER_TTL_S, USER_TTL_S_MAX, checked_ttl_s

router = APIRouter(tags=["access"])

Moment = Annotated[
    datetime,
    PlainSerializer(lambda at: at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), return_type=str),
    Field(description="RFC 3339, UTC."),
]


class UserTokenWish(BaseModel):
    """Whose token, and how long it lives."""

    model_config = ConfigDict(extra="ignore")

    user_id: str = Field(description="1 to 128 of A-Z a-z 0-9 . _ : -")
    ttl_s: StrictInt | None = Field(None, description=f"Seconds, 1 to {USER_TTL_S_MAX}; {USER_TTL_S} when left out.")


class UserToken(BaseModel):
    """A token that sees and does only what is this user's."""

    token: str
    expires_at: Moment


class Ticket(BaseModel):
    """What a browser adds to `GET /v1/events` as `?ticket=`, since it can send no header with a stream."""

    ticket: str
    expires_at: Moment


@router.post(
    "/v1/user-tokens",
    status_code=201,
    summary="A token of one user's own, for that user's client; takes the scope producer",
    responses=problems("unauthorized", "forbidden", "invalid", "too_many_requests", "unavailable"),
)
async def make_user_token(request: Request, caller: Caller, wish: UserTokenWish) -> UserToken:
    """It ends with the token that it was made with."""
    if Scope.PRODUCER not in caller.scopes:
        raise Forbidden("this token may not make tokens for users; it takes the scope producer")
    tokens: TokenBook = request.app.state.tokens
    user_id = caller.acts_for(wish.user_id)
    token, expires_at = tokens.signer.user_token(user_id, checked_ttl_s(wish.ttl_s), via=caller.token_id)
    return UserToken(token=token, expires_at=expires_at)


@router.post(
    "/v1/events/tickets",
    status_code=201,
    summary="A ticket for a browser's event stream, good for a minute",
    responses=problems("unauthorized", "too_many_requests", "unavailable"),
)
async def make_ticket(request: Request, caller: Caller) -> Ticket:
    """It sees what the caller sees. A stream that breaks off later needs a new one."""
    tokens: TokenBook = request.app.state.tokens
    ticket, expires_at = tokens.signer.ticket(caller)
    return Ticket(ticket=ticket, expires_at=expires_at)
