"""A small producer for requests, cancels and grants: typed, keyed, and safe to try again.

A message gets its id when it is made, not when it is sent, so a send whose answer was lost is simply repeated:
the same id is charged or booked once.
"""

from __future__ import annotations

import asyncio
import uuid
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from models.cancelling import CancelRequested, read_cancel
from models.errors import Unavailable, WrongUse
from models.grants import Grant, read_grant
from models.outputs import Header
from models.requests import MalformedRequest, Options, Request, Unreadable, read_request
from models.topics import CANCEL_REQUESTED, GRANTED, REQUESTED
from streams.publisher import REQUEST_TIMEOUT_S, Publisher
from streams.settings import Settings

SEND_TIMEOUT_S = 30.0
BACKOFF_S = (0.1, 0.3, 1.0, 2.0)

_encode = msgspec.json.Encoder().encode


class Place(NamedTuple):
    """Where a record went, and when in broker time. `topic` is without the deployment's prefix."""

    topic: str
    partition: int
    offset: int
    at_ms: int = 0


def new_id(kind: str) -> str:
    """An id nobody else makes, such as `request-5f0c…`."""
    return f"{kind}-{uuid.uuid4().hex}"


def new_request(user_id: str, operation: str, prompt: str, *, request_id: str | None = None, **options: Any) -> Request:
    """A request; `options` are those of models/requests.py, None for the operation's own.

    Raises WrongUse: it would be answered `invalid`; the line names the field.
    """
    request = Request(request_id or new_id("request"), user_id, operation, prompt, Options(**options))
    read = read_request(user_id.encode("utf-8", "surrogatepass"), _encoded(request))
    if isinstance(read, MalformedRequest):
        raise WrongUse("; ".join(f"{error.field}: {error.problem}" for error in read.errors))
    if isinstance(read, Unreadable):
        raise WrongUse(read.error)
    return read


def new_grant(user_id: str, amount: int, kind: str = "purchase", *, grant_id: str | None = None) -> Grant:
    """A grant of `amount` credits.

    Raises WrongUse: nobody would book it.
    """
    grant = Grant(grant_id or new_id("grant"), user_id, amount, kind)  # type: ignore[arg-type]
    read = read_grant(user_id.encode("utf-8", "surrogatepass"), _encoded(grant))
    if isinstance(read, Unreadable):
        raise WrongUse(read.error)
    return read


def new_cancel(user_id: str, request_id: str) -> CancelRequested:
    """A user's wish to stop a request.

    Raises WrongUse: these cannot be ids.
    """
    wish = CancelRequested(request_id, user_id)
    read = read_cancel(user_id.encode("utf-8", "surrogatepass"), _encoded(wish))
    if isinstance(read, Unreadable):
        raise WrongUse(read.error)
    return wish


class Producer:
    """Sends to the partition of the user. Use as `async with Producer(settings) as producer`."""

    def __init__(
        self, settings: Settings, *, client_id: str = "darkroom-producer", request_timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._publisher = Publisher(
            settings.require("kafka"),
            client_id=client_id,
            topic_prefix=settings.topic_prefix,
            request_timeout_s=request_timeout_s,
        )

    async def request(
        self, request: Request, *, headers: tuple[Header, ...] = (), timeout_s: float = SEND_TIMEOUT_S
    ) -> Place:
        """Ask for pictures. Returns once all in-sync brokers have it.

        Raises Unavailable: it may or may not have arrived; sending the same request again is safe.
        """
        return await self._send(REQUESTED, request.user_id, _encoded(request), headers, timeout_s)

    async def cancel(self, wish: CancelRequested, *, timeout_s: float = SEND_TIMEOUT_S) -> Place:
        """Stop a request. Returns once all in-sync brokers have it. Raises Unavailable, as `request` does."""
        return await self._send(CANCEL_REQUESTED, wish.user_id, _encoded(wish), (), timeout_s)

    async def grant(self, grant: Grant, *, timeout_s: float = SEND_TIMEOUT_S) -> Place:
        """Give credits. Returns once all in-sync brokers have it. Raises Unavailable, as `request` does."""
        return await self._send(GRANTED, grant.user_id, _encoded(grant), (), timeout_s)

    async def close(self) -> None:
        """Disconnect."""
        await self._publisher.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(
        self, topic: str, user_id: str, value: bytes, headers: tuple[Header, ...], timeout_s: float
    ) -> Place:
        last: Unavailable | None = None
        try:
            async with asyncio.timeout(timeout_s):
                for pause_s in (*BACKOFF_S, None):
                    try:
                        return Place(topic, *await self._publisher.send(topic, user_id.encode(), value, headers))
                    except Unavailable as error:
                        last = error
                    if pause_s is not None:
                        await asyncio.sleep(pause_s)
        except TimeoutError:
            last = last or Unavailable("Kafka", f"no answer within {timeout_s:g} s")
        assert last is not None
        raise last


def _encoded(message: Request | CancelRequested | Grant) -> bytes:
    try:
        return _encode(message)
    except UnicodeEncodeError:
        raise WrongUse("the text is not UTF-8") from None
