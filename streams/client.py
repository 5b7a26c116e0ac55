"""The client: ask for pictures, wait for them, follow what happens, cancel, give credits. Over Kafka or over HTTP.

    import asyncio
    from streams import DarkroomClient
    from streams.client import GenerationFailed, InsufficientCredits, RateLimited

    async def main() -> None:
        async with DarkroomClient(kafka="127.0.0.1:9092") as client:     # or http="http://127.0.0.1:8400", token="…"
            await client.grant("ada", 20, grant_id="order-1")
            try:
                admission = await client.request("ada", "maya.image", "a fox in the rain", request_id="feed-17-post-3")
                completion = await client.completion(admission)
            except RateLimited as error:
                print(f"{error} Again in {error.retry_after_s} s, under the same id.")
            except InsufficientCredits as error:
                print(f"{error} {error.required - error.current} more are needed.")
            except GenerationFailed as error:
                print(f"{error} {error.refunded} credits were given back.")
            else:
                print(admission.balance, [image.url for image in completion.images])

    asyncio.run(main())

Every call has a timeout, tries again by itself until then, and never makes a second id: what is asked for twice under
one id is charged, or booked, once. So after Pending (or a crash) call again with the same `request_id` and content.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import msgspec

from models.access import Forbidden
from models.cancelling import CancelRequested
from models.errors import DarkroomError, Unavailable, WrongUse
from models.following import EventFilter, types_named
from models.grants import Grant
from models.refusals import Conflict, GenerationFailed, InsufficientCredits, Invalid, Pending, RateLimited, Refused
from models.requests import Context, FieldError, MalformedRequest, Options, Request, Unreadable, is_id, read_request
from models.results import Admission, ClientEvent, Completion, Image, Model, Named, Reference
from streams.following import Gone
from streams.producer import new_cancel, new_grant, new_id
from streams.settings import Settings, load_settings

__all__ = [
    "Admission", "ClientEvent", "Completion", "Conflict", "DarkroomClient", "DarkroomError", "Forbidden",
    "GenerationFailed", "Gone", "Image", "InsufficientCredits", "Invalid", "Model", "Pending", "RateLimited",
    "Reference", "Refused", "Unavailable", "WrongUse",
]  # fmt: skip

DECISION_TIMEOUT_S = 30.0
COMPLETION_TIMEOUT_S = 300.0
SEND_TIMEOUT_S = 30.0


class Wire(Protocol):
    """What a client speaks over; arguments have been checked."""

    async def request(self, request: Request, timeout_s: float) -> Admission:
        """See DarkroomClient."""

    async def completion(self, name: Named, timeout_s: float) -> Completion:
        """See DarkroomClient."""

    def events(self, wanted: EventFilter, position: str | None, is_from_beginning: bool) -> AsyncGenerator[ClientEvent]:
        """See DarkroomClient."""

    async def cancel(self, wish: CancelRequested, timeout_s: float) -> None:
        """See DarkroomClient."""

    async def grant(self, grant: Grant, timeout_s: float) -> None:
        """See DarkroomClient."""

    async def close(self) -> None:
        """See DarkroomClient."""


class DarkroomClient:
    """Use as `async with DarkroomClient(kafka="host:port") as client`; any number of calls may go on at once.

    `kafka` is `host:port[,…]` (the topics' prefix, if any, is DARKROOM_TOPIC_PREFIX), `http` the gateway's URL, with a
    `token` of the scope producer, or of the user. Nothing is connected before the first call.
    Raises WrongUse: not exactly one of `kafka`, `http` and `settings`. BadSetting: `kafka` is no address.
    """

    def __init__(
        self,
        *,
        kafka: str | None = None,
        http: str | None = None,
        token: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if sum(one is not None for one in (kafka, http, settings)) != 1:
            raise WrongUse("a client takes one of kafka=, http= and settings=")
        self._wire: Wire
        if http is not None:
            from streams.client_http import OverHttp

            self._wire = OverHttp(http, token)
        else:
            from streams.client_kafka import OverKafka

            self._wire = OverKafka(settings or load_settings(kafka=kafka))

    @classmethod
    def over_kafka(cls, where: str | Settings) -> Self:
        """A client of the brokers `host:port[,…]`, or of the deployment that the settings are of."""
        return cls(settings=where) if isinstance(where, Settings) else cls(kafka=where)

    @classmethod
    def over_http(cls, url: str, token: str | None) -> Self:
        """A client of the gateway at the URL."""
        return cls(http=url, token=token)

    async def request(
        self,
        user_id: str,
        operation: str,
        prompt: str,
        *,
        request_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        timeout_s: float = DECISION_TIMEOUT_S,
        **options: Any,
    ) -> Admission:
        """Ask for pictures, a video or a trained model; returns once it is admitted and charged.

        `options`: num_outputs, aspect_ratio, seed, image_url, images, trigger_word; `context`: feed_id, position.
        Asked again with the same id and content it returns the same admission.
        Raises RateLimited, InsufficientCredits, Invalid, Conflict: it is refused, and nothing was charged. Pending:
        undecided after `timeout_s`; its `request_id` is the one to ask again with. Forbidden: the token is not for
        this.
        """
        request = _checked(user_id, operation, prompt, request_id or new_id("request"), context, options)
        return await self._wire.request(request, timeout_s)

    async def completion(self, request: Named, *, timeout_s: float = COMPLETION_TIMEOUT_S) -> Completion:
        """Wait until an admitted request has ended; returns its pictures, or the model it trained.

        `request` is its Admission, or a Reference. One that ended before is found as long as it is kept (30 days).
        Raises GenerationFailed: it ended without, and was refunded. Pending: not ended after `timeout_s`. Forbidden.
        """
        return await self._wire.completion(_named(request), timeout_s)

    async def events(
        self,
        *,
        user_id: str | None = None,
        operation: str | None = None,
        types: Sequence[str] = (),
        position: str | None = None,
        since: Literal["now", "beginning"] = "now",
        timeout_s: float | None = None,
    ) -> AsyncGenerator[ClientEvent]:
        """Every event about requests, each once, until `timeout_s` seconds have passed (None: for ever).

        Only of `user_id`, of `operation`, of `types` (admitted, rejected, completed, failed) if these are given. From
        now on, after the event whose `position` is given, or from the beginning of what is kept (over Kafka alone).
        Goes on by itself when a server was away. The order is that of each topic and partition.
        Raises WrongUse: a type or a position that cannot be. Gone: what follows the position is not kept any more.
        Forbidden. Unavailable: Kafka cannot be reached to begin with.
        """
        if position is not None and since != "now":
            raise WrongUse("events begin at a position or at the beginning, not at both")
        if user_id is not None and not is_id(user_id):
            raise WrongUse("user_id: must be 1 to 128 of A-Z a-z 0-9 . _ : -")
        wanted = EventFilter(user_id, operation, types_named(types))
        source = self._wire.events(wanted, position, since == "beginning")
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + timeout_s
        try:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        event = await anext(source)
                except TimeoutError:
                    return
                yield event
        finally:
            await source.aclose()

    async def cancel(self, request: Named, *, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Ask for a request to be stopped; if it still can be, `completion` raises GenerationFailed (`cancelled`).

        Returns once the wish is kept. Raises Unavailable: it may not be; asking again is safe. Forbidden; WrongUse.
        """
        name = _named(request)
        await self._wire.cancel(new_cancel(name.user_id, name.request_id), timeout_s)

    async def grant(
        self,
        user_id: str,
        amount: int,
        kind: str = "purchase",
        *,
        grant_id: str | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> str:
        """Give credits, 1 to 1,000,000; `kind` is purchase, subscription_grant or bonus. Returns the grant's id.

        Give the id of what was bought: the same id is booked once, however often it is sent.
        Returns once the grant is kept; it is booked a moment later. Raises Unavailable; Forbidden; WrongUse.
        """
        grant = new_grant(user_id, amount, kind, grant_id=grant_id)
        await self._wire.grant(grant, timeout_s)
        return grant.grant_id

    async def close(self) -> None:
        """Disconnect."""
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _checked(
    user_id: str,
    operation: str,
    prompt: str,
    request_id: str,
    context: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Request:
    """The request, as it would be read. Raises Invalid: it would be refused, and is not sent at all."""
    where = None if context is None else Context(**context)
    try:
        value = msgspec.json.encode(Request(request_id, user_id, operation, prompt, Options(**options), where))
        key = user_id.encode()
    except UnicodeEncodeError:
        read: Request | MalformedRequest | Unreadable = Unreadable("bad_utf8", "the text is not UTF-8")
    else:
        read = read_request(key, value)
    if isinstance(read, Request):
        return read
    errors = tuple(read.errors) if isinstance(read, MalformedRequest) else (FieldError("", read.error),)
    message = "; ".join(f"{error.field or 'request'}: {error.problem}" for error in errors)
    raise Invalid(user_id, request_id, message, errors=errors)


def _named(request: Named) -> Named:
    if not is_id(request.user_id) or not is_id(request.request_id):
        raise WrongUse("user_id and request_id must be 1 to 128 of A-Z a-z 0-9 . _ : -")
    return request
