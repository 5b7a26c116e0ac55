"""Server-sent events: decisions and completions as they come, or from a position on.

Reads:      what the process's event hub reads
Guarantees: every event once, from the position that Last-Event-ID names, on whichever copy of the gateway it came
            from, as far back as Kafka keeps it. The order is that of each topic and partition.
Fails:      a client that is too slow, or a process that ends, gets `event: bye` with the reason: it comes again with
            the position of its last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from gateway.access import CallerOrTicket, StillGood
from gateway.metrics import STREAMS_ENDED, STREAMS_OPEN
from gateway.parameters import User
from gateway.problems import Problem, problems
from models.errors import DarkroomError
from models.following import EventFilter, types_named
from streams.event_hub import EventHub
from streams.following import Followed, Followers, Gone

STREAMS_MAX = 12_000
HEARTBEAT_S = 15.0
CHECK_S = 10.0
SEND_TIMEOUT_S = 20.0
RETRY_MS = 1_000
POSITIONED_S = 2.5

router = APIRouter()


@router.get(
    "/v1/events",
    summary="Decisions and completions as they come",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **problems(
            "unauthorized",
            "forbidden",
            "position_gone",
            "invalid",
            "too_many_requests",
            "unavailable",
            "too_many_streams",
        ),
    },
)
async def follow_events(
    request: Request,
    caller: CallerOrTicket,
    user: User,
    operation: Annotated[str | None, Query(max_length=64, description="Only of this operation.")] = None,
    type: Annotated[
        list[str] | None, Query(max_length=8, description="Only these, such as completed; again for more.")
    ] = None,
    last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
    position: Annotated[str | None, Query(description="The same as Last-Event-ID, for the first time.")] = None,
) -> EventSourceResponse:
    """`id` is the position to go on from, `event` the event's type, `data` the event as a CloudEvent in JSON."""
    wanted = EventFilter(caller.reads_of(user), operation, types_named(type or ()))
    hub: EventHub = request.app.state.hub
    followers: Followers = request.app.state.followers
    if followers.count >= STREAMS_MAX:
        raise Problem(503, "too_many_streams", "too many follow events here already", {"retry-after": "5"})
    await hub.positioned(POSITIONED_S)
    access = StillGood(request.app.state.tokens, caller)
    try:
        followed = followers.follow(wanted, last_event_id or position, access.check)
    except Gone as error:
        raise Problem(410, error.code, str(error)) from None
    return EventSourceResponse(
        _stream(followed, access),
        ping=HEARTBEAT_S,
        ping_message_factory=_heartbeat,
        send_timeout=SEND_TIMEOUT_S,
        sep="\n",
    )


async def check_streams(followers: Followers) -> None:
    """End streams whose token has ended although nothing comes on them, for ever."""
    while True:
        await asyncio.sleep(CHECK_S)
        await followers.check()


async def _stream(followed: AsyncIterator[Followed], access: StillGood) -> AsyncIterator[bytes]:
    STREAMS_OPEN.inc()
    reason = "left"
    try:
        yield f"retry: {RETRY_MS}\n\n".encode()
        async for event, position in followed:
            await access.check()
            yield b"id: %b\nevent: %b\ndata: %b\n\n" % (position.encode(), event.topic.encode(), event.document)
    except DarkroomError as error:
        reason = error.code
        said = msgspec.json.encode({"reason": error.code, "detail": str(error)})
        yield b"event: bye\ndata: %b\n\n" % said
    finally:
        STREAMS_OPEN.dec()
        STREAMS_ENDED.labels(reason).inc()


def _heartbeat() -> ServerSentEvent:
    return ServerSentEvent(comment="here", sep="\n")
