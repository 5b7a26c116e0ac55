"""What tests of tokens share: rows, a clock that is told, and a table that counts."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.signing import Signer
from gateway.tokens import TokenBook
from models.errors import Unavailable
from models.tokens import StoredToken, token_text

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = "k" * 40


def stored(number: int = 1, **changed: Any) -> tuple[str, StoredToken]:
    """A token's text and its row; the same number makes the same."""
    text, token_id, secret_hash = token_text(bytes([number] * 8), bytes([number] * 32))
    given = {"scopes": ("producer",), "name": "", "created_at": NOW} | changed
    return text, StoredToken(token_id, secret_hash, **given)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.s - 1000.0)


class Table:
    """What Postgres would have; counts how often it is asked."""

    def __init__(self, *rows: StoredToken) -> None:
        self.rows = {row.token_id: row for row in rows}
        self.reads = 0
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read(self) -> Mapping[str, StoredToken]:
        self.reads += 1
        rows = dict(self.rows)
        await self.may_answer.wait()
        if self.is_away:
            raise Unavailable("Postgres", "away")
        return rows


def book_of(table: Table, clock: Clock) -> TokenBook:
    return TokenBook(table.read, Signer(KEY, lambda: clock.now().timestamp()), clock, clock.now)


def encoded(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256", **header: Any) -> str:
    """A signed token by hand, so that what makes them is not what tests them."""

    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    text = part({"typ": "JWT", "alg": algorithm, **header}) + "." + part(claims)
    digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}.get(algorithm)
    signature = hmac.digest(key.encode(), text.encode(), digest) if digest else b""
    return text + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


GOOD = {"sub": "u1", "aud": "darkroom", "iat": 1000, "exp": 1900}
