"""Who asks: the bearer token of a request becomes a Principal, or the request is refused."""

from __future__ import annotations

from typing import Annotated, Protocol

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.problems import Problem
from models.access import Principal

_bearer = HTTPBearer(auto_error=False, description="A token of `darkroom tokens create`, or a user's own.")


class Tokens(Protocol):
    """Knows the tokens. At `app.state.tokens`."""

    async def principal_of(self, token: str) -> Principal | None:
        """Whose token it is, None when it is nobody's (unknown, revoked, expired). Raises Unavailable."""

    async def principal_of_ticket(self, ticket: str) -> Principal | None:
        """Who was given a ticket, None when it is nobody's."""


async def caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Whoever sends the request. Raises Problem 401."""
    tokens: Tokens = request.app.state.tokens
    return _known(None if credentials is None else await tokens.principal_of(credentials.credentials))


async def caller_or_ticket(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ticket: Annotated[str | None, Query(max_length=2048, description="For browsers, instead of a token.")] = None,
) -> Principal:
    """Whoever sends the request, or was given its ticket: browsers cannot send a token with a stream. Raises 401."""
    tokens: Tokens = request.app.state.tokens
    if credentials is None and ticket is not None:
        return _known(await tokens.principal_of_ticket(ticket))
    return await caller(request, credentials)


def _known(principal: Principal | None) -> Principal:
    if principal is None:
        raise Problem(401, "unauthorized", "a good bearer token is needed", {"www-authenticate": "Bearer"})
    return principal


Caller = Annotated[Principal, Depends(caller)]
"""What a route declares to know who asks: `async def get_credits(caller: Caller, user: str | None = None)`."""

CallerOrTicket = Annotated[Principal, Depends(caller_or_ticket)]
"""The same, where a ticket will do."""
