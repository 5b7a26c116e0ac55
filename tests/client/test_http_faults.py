"""The client over HTTP when the gateway is slow, restarts, breaks off, or says no: against a double."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from models.topics import COMPLETED
from streams import DarkroomClient
from streams.client import Forbidden, Gone, Pending, RateLimited, Reference, Unavailable, WrongUse
from tests.client.serving import served
from tests.support.waiting import eventually

ADMITTED = {
    "request_id": "r1", "user_id": "ada", "operation": "maya.image", "state": "admitted", "cost": 1, "balance": 9,
    "version": 2, "admitted_at": "2026-01-31T08:15:30.123Z",
}  # fmt: skip
UNDECIDED = {"request_id": "r1", "user_id": "ada", "operation": "maya.image", "state": "undecided"}
LOCATION = {"location": "/v1/generations/r1?user=ada"}
TIMEOUT_S = 40.0

Answer = Callable[[], Response]


class Double:
    """Answers what it is told to, in this order, and the last for ever; notes what it was asked."""

    def __init__(self) -> None:
        self.posts: list[Answer] = []
        self.views: list[Answer] = [lambda: problem(404, "not_found")]
        self.streams: list[Answer] = []
        self.asked: list[Request] = []
        self.bodies: list[Any] = []

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/v1/generations", self._post, methods=["POST"]),
                Route("/v1/generations/{request_id}", self._view, methods=["GET", "DELETE"]),
                Route("/v1/events", self._stream),
            ]
        )

    def of(self, path: str) -> list[Request]:
        """What was asked there."""
        return [request for request in self.asked if request.url.path == path]

    async def _post(self, request: Request) -> Response:
        self.asked.append(request)
        self.bodies.append(await request.json())
        return _next(self.posts)

    async def _view(self, request: Request) -> Response:
        self.asked.append(request)
        return _next(self.views)

    async def _stream(self, request: Request) -> Response:
        self.asked.append(request)
        return _next(self.streams)


def _next(answers: list[Answer]) -> Response:
    return (answers.pop(0) if len(answers) > 1 else answers[0])()


def problem(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = {"type": "about:blank", "status": status, "code": code, "detail": f"it is {code}", **more}
    return JSONResponse(body, status, headers, "application/problem+json")


def stream(*chunks: str, breaks: bool = False) -> Response:
    async def sent() -> AsyncIterator[str]:
        for chunk in chunks:
            yield chunk
        if breaks:
            raise ConnectionError("the gateway is gone")

    return StreamingResponse(sent(), media_type="text/event-stream")


def completion(request_id: str, position: str) -> str:
    value = {"request_id": request_id, "user_id": "ada", "cost": 1, "refunded": 0, "prompt": "line\u2028separator",
             "images": [{"url": "http://x/1.jpg", "width": 8, "height": 8}]}  # fmt: skip
    head = {"specversion": "1.0", "id": f"ada/{request_id}/completed", "type": COMPLETED, "source": "/darkroom/gallery",
            "time": "2026-01-31T08:15:30.123Z", "partition": 1, "offset": 7, "data": value}  # fmt: skip
    return f"id: {position}\nevent: {COMPLETED}\ndata: {json.dumps(head, ensure_ascii=False)}\n\n"


@asynccontextmanager
async def talking(double: Double) -> AsyncIterator[DarkroomClient]:
    async with served(double.app()) as url, DarkroomClient(http=url, token="secret-token") as client:
        yield client


async def ask(client: DarkroomClient, timeout_s: float = TIMEOUT_S) -> Any:
    return await client.request("ada", "maya.image", "a boat", request_id="r1", timeout_s=timeout_s, seed=7)


async def test_a_busy_gateway_is_asked_again_under_the_same_id() -> None:
    double = Double()
    double.posts = [
        lambda: problem(503, "unavailable", {"retry-after": "1"}),
        lambda: problem(429, "too_many_requests", {"retry-after": "1"}),
        lambda: Response("<html>", 502),
        lambda: JSONResponse(ADMITTED, 202),
    ]
    async with talking(double) as client:
        assert (await ask(client)).balance == 9
    assert {request.headers["idempotency-key"] for request in double.asked} == {"r1"}
    assert len(double.bodies) == 4
    assert all(body == double.bodies[0] for body in double.bodies)
    assert double.bodies[0]["options"] == {"seed": 7}
    for request in double.asked:
        assert request.headers["authorization"] == "Bearer secret-token"
        assert "secret-token" not in str(request.url)


async def test_an_undecided_request_is_looked_at_and_then_asked_for_again() -> None:
    double = Double()
    double.posts = [lambda: JSONResponse(UNDECIDED, 202, LOCATION), lambda: JSONResponse(ADMITTED, 202)]
    double.views = [lambda: problem(404, "not_found"), lambda: JSONResponse({**UNDECIDED, "state": "queued"})]
    async with talking(double) as client:
        assert (await ask(client)).admitted_at == ADMITTED["admitted_at"]
    assert len(double.of("/v1/generations/r1")) == 2


async def test_a_location_elsewhere_is_never_followed() -> None:
    double = Double()
    elsewhere = Double()
    async with served(elsewhere.app()) as other_url, talking(double) as client:
        location = {"location": f"{other_url}/v1/generations/r1"}
        double.posts = [lambda: JSONResponse(UNDECIDED, 202, location)]
        with pytest.raises(Pending):
            await ask(client, timeout_s=2.0)
    assert elsewhere.asked == []


async def test_a_limit_of_the_user_is_raised_at_once() -> None:
    double = Double()
    fields = {"policy": "maya.image", "limit": 30, "window_s": 60, "remaining": 0, "retry_after_s": 12.5}
    double.posts = [lambda: problem(429, "rate_limited", {"retry-after": "13"}, **fields)]
    async with talking(double) as client:
        with pytest.raises(RateLimited) as limited:
            await ask(client)
    assert {name: getattr(limited.value, name) for name in fields} == fields
    assert len(double.asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [(401, "unauthorized", Forbidden), (403, "forbidden", Forbidden), (400, "x", WrongUse)],
)
async def test_what_cannot_help_to_repeat_is_raised_at_once(status: int, code: str, raised: type[Exception]) -> None:
    double = Double()
    double.posts = double.streams = [lambda: problem(status, code)]
    async with talking(double) as client:
        with pytest.raises(raised, match=code):
            await ask(client)
        with pytest.raises(raised, match=code):
            await anext(client.events(timeout_s=TIMEOUT_S))
    assert len(double.asked) == 2


async def test_a_gateway_that_is_away_is_pending_within_the_timeout() -> None:
    client = DarkroomClient(http="http://127.0.0.1:9", token="t")
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with client:
        with pytest.raises(Pending) as pending:
            await ask(client, timeout_s=1.5)
        with pytest.raises(Unavailable):
            await client.grant("ada", 5, timeout_s=0.5)
        with pytest.raises(Pending):
            await client.completion(Reference("ada", "r1"), timeout_s=1.0)
    assert pending.value.request_id == "r1"
    assert loop.time() - began < 15


@pytest.mark.parametrize("ending", ["breaks", "bye", "ends"])
async def test_a_stream_that_breaks_off_goes_on_after_its_last_event(ending: str) -> None:
    double = Double()
    bye = 'event: bye\ndata: {"reason": "closing"}\n\n' if ending == "bye" else ""
    double.streams = [
        lambda: problem(503, "too_many_streams", {"retry-after": "1"}),
        lambda: stream(": here\n\nretry: 1000\n\n", completion("r1", "p1") + bye, breaks=ending == "breaks"),
        lambda: stream(completion("r2", "p2")),
    ]
    async with talking(double) as client:
        found = []
        async for event in client.events(user_id="ada", types=["completed"], position="p0", timeout_s=TIMEOUT_S):
            found.append(event)
            if len(found) == 2:
                break
    assert [(event.body["request_id"], event.position) for event in found] == [("r1", "p1"), ("r2", "p2")]
    assert found[0].body["prompt"] == "line\u2028separator"
    asked = double.of("/v1/events")
    assert [request.headers["last-event-id"] for request in asked[:3]] == ["p0", "p0", "p1"]
    assert dict(asked[0].query_params) == {"user": "ada", "type": COMPLETED}


async def test_a_position_that_is_gone_is_said() -> None:
    double = Double()
    double.streams = [lambda: problem(410, "position_gone")]
    async with talking(double) as client:
        with pytest.raises(Gone):
            await anext(client.events(position="old", timeout_s=TIMEOUT_S))


async def test_a_completion_that_fell_between_two_streams_is_found_by_looking() -> None:
    double = Double()
    double.streams = [lambda: stream(": here\n\n")]
    view = {**ADMITTED, "state": "completed", "refunded": 0, "finished_at": "2026-01-31T08:15:31.000Z",
            "images": [{"url": "http://x/1.jpg", "width": 8, "height": 8, "output_index": 0}]}  # fmt: skip
    double.views = [lambda: problem(404, "not_found"), lambda: JSONResponse(view)]
    async with talking(double) as client:
        found = await client.completion(Reference("ada", "r1"), timeout_s=TIMEOUT_S)
    assert (found.images[0].url, found.completed_at) == ("http://x/1.jpg", view["finished_at"])


async def test_cancelling_what_has_ended_is_no_error_and_what_is_undecided_is_tried_again() -> None:
    double = Double()
    double.views = [
        lambda: problem(409, "undecided", {"retry-after": "1"}),
        lambda: problem(409, "already_ended"),
        lambda: problem(404, "not_found"),
    ]
    async with talking(double) as client:
        await client.cancel(Reference("ada", "r1"), timeout_s=TIMEOUT_S)
        await eventually(lambda: len(double.asked) == 2, 1)
        with pytest.raises(WrongUse, match="not_found"):
            await client.cancel(Reference("ada", "r1"), timeout_s=TIMEOUT_S)
