"""A gateway with books behind it, and tokens that everybody may know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.app import create_app
from gateway.signing import Signer
from models.access import Principal, Scope
from streams.settings import Settings

PRODUCER = {"authorization": "Bearer producer"}
DASHBOARD = {"authorization": "Bearer dashboard"}
ADA = {"authorization": "Bearer ada"}
BEN = {"authorization": "Bearer ben"}


class FixedTokens:
    """Knows a token for each scope, and users' own: their names. Signs what the gateway's own book would."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    async def principal_of(self, token: str) -> Principal | None:
        if token == "nobody":
            return None
        if token in tuple(Scope):
            return Principal(token, frozenset({Scope(token)}))
        return Principal(token, frozenset({Scope.USER}), user_id=token)

    async def is_still_good(self, principal: Principal) -> bool:
        return True

    async def principal_of_ticket(self, ticket: str) -> Principal | None:
        return None


def app_of(settings: Settings, **state: Any) -> FastAPI:
    """The application with these tokens, and whatever else its state shall hold."""
    app = create_app(settings)
    app.state.tokens = FixedTokens(app.state.tokens.signer)
    for name, value in state.items():
        setattr(app.state, name, value)
    return app


@asynccontextmanager
async def caller_of(settings: Settings, **state: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of such an application; it sends no token by itself."""
    app = app_of(settings, **state)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=30.0) as made,
    ):
        yield made


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    """It is a problem of this code."""
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
