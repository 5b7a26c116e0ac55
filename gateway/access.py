"""Who asks: the bearer token of a request becomes a Principal, or the request is refused."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Annotated, Protocol

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.problems import Problem
from models.access import Principal
from models.errors import DarkroomError, Unavailable

RECHECK_S = 5.0

COUNTED = "darkroom.principal"
"""In a request's scope: whose token it carries, as whoever counts requests has found already."""

_bearer = HTTPBearer(auto_error=False, description="A token of `darkroom tokens create`, or a user's own.")


class Tokens(Protocol):
    """Knows the tokens. At `app.state.tokens`."""

    async def principal_of(self, token: str) -> Principal | None:
        """Whose token it is, None when it is nobody's (unknown, revoked, expired). Raises Unavailable."""

    async def principal_of_ticket(self, ticket: str) -> Principal | None:
        """Who was given a ticket, None when it is nobody's."""

    async def is_still_good(self, principal: Principal) -> bool:
        """Whether the token that somebody came with is still neither revoked nor over. Raises Unavailable."""


async def caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Whoever sends the request. Raises Problem 401."""
    if credentials is None:
        return _known(None)
    counted: Principal | None = request.scope.get(COUNTED)
    if counted is not None:
        return counted
    tokens: Tokens = request.app.state.tokens
    return _known(await tokens.principal_of(credentials.credentials))


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


class TokenEnded(DarkroomError):
    """The token was revoked or has ended since."""

    code = "token_ended"


class StillGood:
    """Whether something that goes on for long still may; asked before each thing it shows, looked up now and then."""

    def __init__(
        self, tokens: Tokens, principal: Principal, every_s: float = RECHECK_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self._tokens = tokens
        self._principal = principal
        self._every_s = every_s
        self._clock = clock
        self._checked_at = clock()

    async def check(self) -> None:
        """Raises TokenEnded."""
        now = self._clock()
        if now - self._checked_at < self._every_s:
            return
        self._checked_at = now
        try:
            is_good = await self._tokens.is_still_good(self._principal)
        except Unavailable:
            # Who was known goes on while nobody can be asked.
            return
        if not is_good:
            raise TokenEnded("the token was revoked or has ended; come again with another")
