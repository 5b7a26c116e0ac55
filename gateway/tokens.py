"""Knows the tokens, from memory: a request costs no query, whether its token is good, wrong or made up.

All live tokens are held as one list, which is read anew every other second while requests come: a token that was
revoked works for a few seconds more, and one that was made works within half a second. While Postgres is away the
last list holds for a minute; after that nobody can be known, which is Unavailable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import structlog

from gateway.signing import Signer
from models.access import Principal
from models.errors import Unavailable
from models.tokens import GOOD_WITHOUT_POSTGRES_S, TOKEN_CHARACTERS_MAX, StoredToken, parts_of, plan_for, principal_in

log = structlog.get_logger()

READ_TIMEOUT_S = 3.0

ReadLive = Callable[[], Awaitable[Mapping[str, StoredToken]]]


class TokenBook:
    """The gateway's `Tokens`. `read_live` reads every live token; `clock` gives monotonic seconds."""

    def __init__(
        self,
        read_live: ReadLive,
        signer: Signer,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.signer = signer
        self._read_live = read_live
        self._clock = clock
        self._now = now
        self._live: Mapping[str, StoredToken] = {}
        self._read_at: float | None = None
        self._failed_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def principal_of(self, token: str) -> Principal | None:
        """Whose token it is, None when it is nobody's (unknown, revoked, expired). Raises Unavailable."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            return None
        parts = parts_of(token)
        if parts is None:
            return await self._checked(self.signer.read_user_token(token))
        return principal_in(await self._list(parts[0]), token, self._now())

    async def principal_of_ticket(self, ticket: str) -> Principal | None:
        """Who was given a ticket for the event stream, None when it is nobody's. Raises Unavailable."""
        return await self._checked(self.signer.read_ticket(ticket))

    async def is_still_good(self, principal: Principal) -> bool:
        """Whether the token that somebody came with is still neither revoked nor over. Raises Unavailable."""
        now = self._now()
        if principal.ends_at_s is not None and now.timestamp() >= principal.ends_at_s:
            return False
        stored_id = principal.token_id if principal.user_id is None else principal.via
        if stored_id is None:
            return True
        stored = (await self._list(stored_id)).get(stored_id)
        return stored is not None and stored.is_live(now)

    async def _checked(self, principal: Principal | None) -> Principal | None:
        return principal if principal is not None and await self.is_still_good(principal) else None

    async def _list(self, token_id: str) -> Mapping[str, StoredToken]:
        """The live tokens by id, new enough for a token of this id. Raises Unavailable."""
        since_failure_s = None if self._failed_at is None else self._clock() - self._failed_at
        plan = plan_for(self._age_s(), is_known=token_id in self._live, since_failure_s=since_failure_s)
        if plan.read and self._reading is None:
            # A task of its own: whoever asked may go away, and the others still wait for it.
            self._reading = asyncio.create_task(self._read(), name="read tokens")
        if plan.wait and self._reading is not None:
            await asyncio.wait({self._reading})
        age_s = self._age_s()
        if plan.fail or age_s is None or age_s > GOOD_WITHOUT_POSTGRES_S:
            raise Unavailable("Postgres", "the tokens cannot be read")
        return self._live

    async def _read(self) -> None:
        began_at = self._clock()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                self._live = await self._read_live()
            self._read_at, self._failed_at = began_at, None
        except Exception as error:
            self._failed_at = self._clock()
            log.warning("tokens not read", why=str(error) or type(error).__name__)
        finally:
            self._reading = None

    def _age_s(self) -> float | None:
        return None if self._read_at is None else self._clock() - self._read_at
