"""Tokens that are signed instead of stored: a user's own, and tickets for browsers' event streams.

Each says for what it is (`aud`), so that neither opens what the other does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt

from models.access import Principal, Scope
from models.requests import is_id
from models.tokens import TICKET_TTL_S, TOKEN_CHARACTERS_MAX

ALGORITHM = "HS256"
AUDIENCE_API = "darkroom"
AUDIENCE_EVENTS = "events"
# Gateways' clocks differ a little: what one has made, the other must not find made in the future.
LEEWAY_S = 2
_REQUIRED = ["sub", "aud", "iat", "exp"]


class Signer:
    """Makes and checks signed tokens. `clock` gives seconds since 1970."""

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        self._key = key.encode()
        self._clock = clock

    def user_token(self, user_id: str, ttl_s: int, via: str | None = None) -> tuple[str, datetime]:
        """(a token of this user's own, when it ends)."""
        return self._sign(AUDIENCE_API, user_id, ttl_s, {} if via is None else {"via": via})

    def ticket(self, principal: Principal) -> tuple[str, datetime]:
        """(a ticket for the event stream that sees what the principal sees, when it ends)."""
        via = principal.token_id if principal.user_id is None else principal.via
        says: dict[str, Any] = {"scopes": sorted(principal.scopes), "user_id": principal.user_id, "via": via}
        if principal.ends_at_s is not None:
            says["ends_at_s"] = principal.ends_at_s
        return self._sign(AUDIENCE_EVENTS, principal.token_id, TICKET_TTL_S, says)

    def read_user_token(self, token: str) -> Principal | None:
        """Whose it is; None when it is not ours, is over, or is for something else."""
        claims = self._claims(token, AUDIENCE_API)
        if claims is None or not is_id(user_id := claims["sub"]):
            return None
        return user_principal(user_id, _via(claims), claims["exp"])

    def read_ticket(self, ticket: str) -> Principal | None:
        """The same for a ticket."""
        claims = self._claims(ticket, AUDIENCE_EVENTS)
        if claims is None:
            return None
        try:
            scopes = frozenset(Scope(scope) for scope in claims["scopes"])
        except (KeyError, TypeError, ValueError):
            return None
        # The ticket's own end is that of its use; a stream ends with the token that the ticket was made with.
        return Principal(claims["sub"], scopes, claims.get("user_id"), _via(claims), claims.get("ends_at_s"))

    def _sign(self, audience: str, subject: str, ttl_s: int, says: dict[str, Any]) -> tuple[str, datetime]:
        now = int(self._clock())
        claims = {"sub": subject, "aud": audience, "iat": now, "exp": now + ttl_s, **says}
        return jwt.encode(claims, self._key, ALGORITHM), datetime.fromtimestamp(now + ttl_s, UTC)

    def _claims(self, token: str, audience: str) -> dict[str, Any] | None:
        if len(token) > TOKEN_CHARACTERS_MAX:
            return None
        try:
            # The times are checked below, by our clock.
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=audience,
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "strict_aud": True},
            )
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            return None
        made, ends, now = claims["iat"], claims["exp"], self._clock()
        if not isinstance(made, int) or not isinstance(ends, int):
            return None
        return claims if made - LEEWAY_S <= now < ends else None


def user_principal(user_id: str, via: str | None = None, ends_at_s: float | None = None) -> Principal:
    """Whoever holds a token of this user. All of a user's tokens count as one where requests are counted."""
    return Principal(f"user:{user_id}", frozenset({Scope.USER}), user_id, via, ends_at_s)


def _via(claims: dict[str, Any]) -> str | None:
    via = claims.get("via")
    return None if via is None else str(via)
