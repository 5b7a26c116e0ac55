"""The client over HTTP: the gateway's routes, with the same calls and errors as over Kafka.

Guarantees: a call that is tried again carries the id that it had: charged, or booked, once.
Fails:      503, 429 for the token and broken connections are tried again until the timeout, at the pace that the
            gateway asks for; then Pending or Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import httpx
import msgspec

from models.access import Forbidden
from models.cancelling import CancelRequested
from models.errors import DarkroomError, Unavailable, WrongUse
from models.following import EventFilter
from models.grants import Grant
from models.refusals import GenerationFailed, Pending, refusal
from models.requests import Request
from models.results import Admission, ClientEvent, Completion, Named, completion_of, read_as
from models.sse import ServerEvent, SseReader
from models.topics import COMPLETED, FAILED
from streams.following import Gone
from streams.patience import Deadline, pauses

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
# Three of the gateway's heartbeats.
SILENCE_S = 45.0
DECISION_WAIT_S = 20
POLL_S = 5.0
CONNECTIONS_MAX = 1000
_AGAIN = {429, 500, 502, 503, 504}
# Of the answers that say to come again, this one decides; of those that do not, this one says so all the same.
_FINAL_CODE, _AGAIN_CODE = "rate_limited", "undecided"


class OverHttp:
    """See streams/client.py for what each call does and raises."""

    def __init__(self, url: str, token: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise WrongUse("http: must start with http:// or https://")
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=100),
        )

    async def request(self, request: Request, timeout_s: float) -> Admission:
        """Post it, again under the same id while nobody has decided."""
        deadline = Deadline(timeout_s)
        body = msgspec.to_builtins(request)
        try:
            while True:
                wait_s = max(1, min(DECISION_WAIT_S, int(deadline.left_s)))
                headers = {"idempotency-key": request.request_id, "prefer": f"wait={wait_s}"}
                response = await self._call(
                    "POST", "/v1/generations", deadline, wait_s=wait_s, json=body, headers=headers
                )
                answer = _answer(response, request)
                if answer.get("state") != "undecided":
                    return read_as(Admission, answer)
                await self._until_known(response.headers.get("location", ""), deadline)
        except Pending:
            raise
        except Unavailable as error:
            raise Pending(request.user_id, request.request_id, str(error)) from None

    async def completion(self, name: Named, timeout_s: float) -> Completion:
        """Follow the user's events, and look once they are followed, so that an end cannot fall between."""
        deadline = Deadline(timeout_s)
        wanted = EventFilter(user_id=name.user_id, types=frozenset((COMPLETED, FAILED)))
        stream = _Stream(self._client, wanted, None, looks=lambda: self._ended(name, deadline))
        try:
            async with asyncio.timeout_at(deadline.at), aclosing(stream.events()) as events:
                async for found in events:
                    if isinstance(found, Completion):
                        return found
                    if found.body.get("request_id") == name.request_id:
                        return completion_of(found.type, found.body)
        except (Unavailable, TimeoutError) as error:
            raise Pending(name.user_id, name.request_id, str(error) or f"not ended within {timeout_s:g} s") from None
        raise AssertionError("a stream of events has no end")

    async def events(
        self, wanted: EventFilter, position: str | None, is_from_beginning: bool
    ) -> AsyncGenerator[ClientEvent]:
        """Follow; a stream that breaks off is opened again after its last event."""
        if is_from_beginning:
            raise WrongUse("since: over HTTP events are followed from now on, or from a position")
        async with aclosing(_Stream(self._client, wanted, position).events()) as events:
            async for found in events:
                if isinstance(found, ClientEvent):
                    yield found

    async def cancel(self, wish: CancelRequested, timeout_s: float) -> None:
        """Ask for it; a request that has ended already stays as it is."""
        response = await self._call(
            "DELETE", f"/v1/generations/{wish.request_id}", Deadline(timeout_s), params={"user": wish.user_id}
        )
        if response.status_code == 409 and _document(response).get("code") == "already_ended":
            return
        _answer(response)

    async def grant(self, grant: Grant, timeout_s: float) -> None:
        """Post it."""
        headers = {"idempotency-key": grant.grant_id}
        body = msgspec.to_builtins(grant)
        _answer(await self._call("POST", "/v1/grants", Deadline(timeout_s), json=body, headers=headers))

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def _call(
        self, method: str, path: str, deadline: Deadline, *, wait_s: float = 0.0, **options: Any
    ) -> httpx.Response:
        """The gateway's answer, good or bad, but not one that says to try again. Raises Unavailable."""
        problem = "no time was left"
        for pause_s in pauses():
            limit = httpx.Timeout(ANSWER_TIMEOUT_S + wait_s, connect=CONNECT_TIMEOUT_S)
            try:
                async with asyncio.timeout_at(deadline.at):
                    response = await self._client.request(method, path, timeout=limit, **options)
            except (httpx.HTTPError, TimeoutError) as error:
                problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            else:
                code = _document(response).get("code")
                if (response.status_code not in _AGAIN or code == _FINAL_CODE) and code != _AGAIN_CODE:
                    return response
                problem = _detail(response)
                pause_s += _retry_after_s(response)
            if not await deadline.pause(pause_s):
                break
        raise Unavailable("the gateway", problem)

    async def _until_known(self, location: str, deadline: Deadline) -> None:
        """Look for a change for a while: only the POST compares contents, so that is what says what has changed.

        Raises Unavailable: the deadline has passed.
        """
        until = Deadline(min(POLL_S, deadline.left_s))
        for pause_s in pauses():
            if not await until.pause(pause_s):
                break
            # A Location elsewhere would be given our token.
            if location.startswith("/v1/"):
                answer = _document(await self._call("GET", location, deadline))
                if answer.get("state", "undecided") != "undecided":
                    return
        if not deadline.left_s:
            raise Unavailable("a decision", f"nobody decided within {deadline.timeout_s:g} s")

    async def _ended(self, name: Named, deadline: Deadline) -> Completion | None:
        """What the request has become, None while it goes on. Raises GenerationFailed, Forbidden, Unavailable."""
        path = f"/v1/generations/{name.request_id}"
        response = await self._call("GET", path, deadline, params={"user": name.user_id})
        if response.status_code in (401, 403):
            _answer(response)
        body = _document(response)
        match body.get("state"):
            case "completed":
                return _completion_in(body) or await self._completion_event(name, deadline)
            case "failed" | "cancelled" as state:
                raise GenerationFailed(
                    name.user_id,
                    name.request_id,
                    str(body.get("message") or body.get("reason") or state),
                    reason=str(body.get("reason") or state),
                    refunded=int(body.get("refunded") or 0),
                )
        return None

    async def _completion_event(self, name: Named, deadline: Deadline) -> Completion | None:
        """The completion in a request's timeline: of trainings, and of pictures that were deleted since."""
        path = f"/v1/generations/{name.request_id}/timeline"
        body = _document(await self._call("GET", path, deadline, params={"user": name.user_id}))
        found = (event for event in body.get("events", ()) if event.get("topic") == COMPLETED)
        return next((completion_of(COMPLETED, event["body"]) for event in found), None)


def _completion_in(view: Mapping[str, Any]) -> Completion | None:
    """What a completed request's view tells, None if there are no pictures in it."""
    times = {"requested_at": view.get("admitted_at", ""), "completed_at": view.get("finished_at", "")}
    return read_as(Completion, {**view, **times}) if view.get("images") else None


class _Looks(Protocol):
    async def __call__(self) -> Completion | None: ...


async def _looks_nowhere() -> None:
    return None


class _Stream:
    """GET /v1/events, opened again whenever it ends; after each opening it `looks` for what came before."""

    def __init__(
        self, client: httpx.AsyncClient, wanted: EventFilter, position: str | None, looks: Any = _looks_nowhere
    ) -> None:
        self._client = client
        self._position = position
        self._looks: _Looks = looks
        self._query: list[tuple[str, str | int | float | bool | None]] = [
            ("type", topic) for topic in sorted(wanted.types or ())
        ]
        if wanted.user_id is not None:
            self._query.append(("user", wanted.user_id))
        if wanted.operation is not None:
            self._query.append(("operation", wanted.operation))

    async def events(self) -> AsyncGenerator[ClientEvent | Completion]:
        """Endless. Raises Gone, Forbidden, WrongUse."""
        waits = pauses()
        while True:
            pause_s = next(waits)
            headers = {"accept": "text/event-stream"}
            if self._position:
                headers["last-event-id"] = self._position
            limit = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
            try:
                async with self._client.stream(
                    "GET", "/v1/events", params=self._query, headers=headers, timeout=limit
                ) as response:
                    if response.status_code in _AGAIN:
                        pause_s += _retry_after_s(response)
                    else:
                        if response.status_code != 200:
                            await response.aread()
                            _answer(response)
                        found = await self._looks()
                        if found is not None:
                            yield found
                        async with aclosing(self._read(response)) as events:
                            async for event in events:
                                waits = pauses()
                                yield event
            except (httpx.HTTPError, Unavailable):
                pass  # opened again below, for as long as whoever asks has time
            await asyncio.sleep(pause_s)

    async def _read(self, response: httpx.Response) -> AsyncGenerator[ClientEvent]:
        reader = SseReader()
        async for chunk in response.aiter_bytes():
            for server_event in reader.feed(chunk):
                if server_event.event == "bye":
                    return
                self._position = server_event.last_id or self._position
                yield _client_event(server_event)


class _CloudEvent(msgspec.Struct):
    id: str
    type: str
    partition: int
    offset: int
    time: str
    data: dict[str, Any]


def _client_event(event: ServerEvent) -> ClientEvent:
    try:
        read = msgspec.json.decode(event.data, type=_CloudEvent)
    except msgspec.MsgspecError as error:
        raise Unavailable("an event that can be read", str(error)) from error
    return ClientEvent(read.id, read.type, read.type, read.partition, read.offset, read.time, read.data, event.last_id)


def _document(response: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of an answer, an empty one if it is none."""
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _detail(response: httpx.Response) -> str:
    document = _document(response)
    return f"{response.status_code} {document.get('detail') or response.reason_phrase}"


def _answer(response: httpx.Response, asked: Named | None = None) -> Mapping[str, Any]:
    """The body of a good answer.

    Raises Refused: what was asked for is refused. Forbidden, Gone, WrongUse, Unavailable: as the status says.
    """
    status, document = response.status_code, _document(response)
    if status < 300:
        return document
    detail = str(document.get("detail") or response.reason_phrase)
    error: DarkroomError | None = None
    if asked is not None and status in (402, 409, 422, 429):
        error = refusal(str(document.get("code")), asked.user_id, asked.request_id, detail, document)
    if error is None:
        kinds: Sequence[tuple[bool, DarkroomError]] = (
            (status in (401, 403), Forbidden(detail)),
            (status == 410, Gone(detail)),
            (400 <= status < 500, WrongUse(detail)),
        )
        error = next((one for fits, one in kinds if fits), Unavailable("the gateway", _detail(response)))
    raise error


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), 60.0) if text.isdigit() else 0.0
