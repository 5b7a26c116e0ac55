"""Requests for pictures over HTTP: onto Kafka, and back with the decision.

Reads:      POST /v1/generations; the decision from the process's event hub
Writes:     generations.requested.v1
Guarantees: the id is made once, by the client (Idempotency-Key) or here, so sending again is the same request: charged
            once, answered the same. An answer comes only after all in-sync brokers have the request.
Fails:      503 within 3 s while Kafka is away, with the id that is safe to send again; 202 `undecided` when nobody
            decides in time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from gateway.access import Caller
from gateway.bodies import read_json_object
from gateway.metrics import DECISION_SECONDS
from gateway.problems import Problem, problem_response, problems, unavailable
from gateway.request_bodies import GENERATION_BODY
from gateway.schemas import Decision
from models.errors import Unavailable
from models.following import FollowedEvent, answers
from models.http_fields import WAIT_DEFAULT_S, WAIT_MAX_S, idempotency_key_of, rate_limit_fields, wait_in, wait_of
from models.outputs import traceparent_in
from models.requests import FieldError, MalformedRequest, Unreadable, is_id, read_request
from models.requests import Request as GenerationRequest
from models.topics import ADMITTED
from streams.event_hub import EventHub
from streams.producer import Place, Producer, new_id

AWAY_S = 2.5
STATUS_OF_REASON = {"rate_limited": 429, "insufficient_credits": 402, "invalid": 422, "conflict": 409}
_FIELDS = ("operation", "prompt", "options", "context")

router = APIRouter()


@router.post(
    "/v1/generations",
    status_code=202,
    summary="Ask for pictures, a video or a trained model",
    response_model=Decision,
    responses={
        202: {
            "headers": {
                "Location": {"schema": {"type": "string"}, "description": "Where to look from now on."},
                "Preference-Applied": {"schema": {"type": "string"}, "example": "wait=10"},
                "Retry-After": {"schema": {"type": "integer"}, "description": "In seconds, while undecided."},
            }
        },
        **problems(
            "bad_body",
            "unauthorized",
            "insufficient_credits",
            "forbidden",
            "too_slow",
            "conflict",
            "too_large",
            "invalid",
            "rate_limited",
            "too_many_requests",
            "unavailable",
        ),
    },
    openapi_extra=GENERATION_BODY,
)
async def request_generation(
    request: Request,
    caller: Caller,
    idempotency_key: Annotated[
        str | None, Header(description="The request's id. The same again is the same request, charged once.")
    ] = None,
    prefer: Annotated[
        str | None,
        Header(
            description=f"`wait=N`: how long to wait for the decision, {WAIT_DEFAULT_S:g} s unless told, at most "
            f"{WAIT_MAX_S:g} s."
        ),
    ] = None,
) -> Response:
    """202 once admitted, or while still undecided: then look at its Location."""
    began = time.monotonic()
    asked = _asked(await read_json_object(request), caller, idempotency_key)
    trace = traceparent_in(request.headers.get("traceparent"))
    event = await _decided(request, asked, () if trace is None else (trace,), wait_of(prefer))
    response = _answer(asked, event)
    if (applied := wait_in(prefer)) is not None:
        response.headers["preference-applied"] = f"wait={applied:g}"
    outcome = "undecided" if event is None else str(event.body.get("reason", "admitted"))
    DECISION_SECONDS.labels(outcome).observe(time.monotonic() - began)
    return response


def _asked(body: dict[str, Any], caller: Caller, idempotency_key: str | None) -> GenerationRequest:
    """The request that a body makes, in the caller's name. Raises Problem 422, Forbidden, WrongUse."""
    user_id = caller.acts_for(body.get("user_id"))
    key, in_body = idempotency_key_of(idempotency_key), body.get("request_id")
    # An empty id is a client's mistake: with an id made here, each of its retries would be charged.
    request_id = next((given for given in (key, in_body) if given is not None), None)
    request_id = new_id("request") if request_id is None else request_id
    if not is_id(request_id):
        raise _invalid([FieldError("request_id", "must be 1 to 128 of A-Z a-z 0-9 . _ : -")])
    if in_body not in (None, request_id):
        raise _invalid([FieldError("request_id", "must be the same as Idempotency-Key")])
    fields = {name: body[name] for name in _FIELDS if name in body}
    value = msgspec.json.encode({"request_id": request_id, "user_id": user_id, **fields})
    read = read_request(user_id.encode(), value)
    if isinstance(read, MalformedRequest):
        raise _invalid([error for error in read.errors if error.field != "key"])
    if isinstance(read, Unreadable):
        raise _invalid([FieldError("", read.error)])
    return read


async def _decided(
    request: Request, asked: GenerationRequest, headers: tuple[tuple[str, bytes], ...], wait_s: float
) -> FollowedEvent | None:
    """Publish the request and wait for what is decided; None if nothing is in time. Raises Problem 503."""
    hub: EventHub = request.app.state.hub
    producer: Producer = request.app.state.producer
    if not await request.app.state.kafka_probe.is_reachable():
        raise _away(asked.request_id)
    try:
        await hub.positioned(AWAY_S)
        async with hub.awaiting(asked.user_id, asked.request_id) as events:
            # Before it is sent, so that an answer that comes at once is the latest.
            hub.log.note_asked(asked.user_id, asked.request_id, asked.operation)
            place = await producer.request(asked, headers=headers, timeout_s=AWAY_S)
            return await _first_answer(events, asked, place, wait_s)
    except Unavailable:
        raise _away(asked.request_id) from None


async def _first_answer(
    events: asyncio.Queue[FollowedEvent], asked: GenerationRequest, place: Place, wait_s: float
) -> FollowedEvent | None:
    try:
        async with asyncio.timeout(wait_s):
            while True:
                event = await events.get()
                if answers(event, asked, place.partition, place.offset):
                    return event
    except TimeoutError:
        return None


def _answer(asked: GenerationRequest, event: FollowedEvent | None) -> Response:
    location = f"/v1/generations/{asked.request_id}?user={asked.user_id}"
    about = {"request_id": asked.request_id, "user_id": asked.user_id, "operation": asked.operation}
    if event is None:
        return JSONResponse({**about, "state": "undecided"}, 202, {"location": location, "retry-after": "1"})
    body = event.body
    if event.topic == ADMITTED:
        facts = {name: body[name] for name in ("cost", "balance", "version", "admitted_at")}
        return JSONResponse({**about, "state": "admitted", **facts}, 202, {"location": location})
    reason = body["reason"]
    facts = {name: value for name, value in body.items() if name not in ("reason", "message", *about)}
    headers = rate_limit_fields(body) if reason == "rate_limited" else {}
    return problem_response(Problem(STATUS_OF_REASON[reason], reason, body["message"], headers, about | facts))


def _invalid(errors: list[FieldError]) -> Problem:
    first = errors[0]
    detail = f"{first.field or 'request'}: {first.problem}"
    return Problem(422, "invalid", detail, extra={"errors": [msgspec.structs.asdict(error) for error in errors]})


def _away(request_id: str) -> Problem:
    problem = unavailable("the event log is not available; send the same request again under this id")
    problem.extra["request_id"] = request_id
    return problem
