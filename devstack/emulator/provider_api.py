"""Replicate's HTTP API: predictions, trainings, models, account and webhook secret."""

from __future__ import annotations

import asyncio
import math
import re
import time
from datetime import datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from devstack.emulator.answers import NoAnswer, TooLarge, emulator_of, json_answer, json_body, problem
from devstack.emulator.core import Emulator
from devstack.emulator.creation import Creation, creation_of
from devstack.emulator.faults import Fault, Mark, marks_in_header, share_of
from devstack.emulator.predictions import Prediction, body_of
from devstack.emulator.store import PAGE_SIZE
from models.errors import WrongUse

router = APIRouter(prefix="/v1")
FAULT_HEADER = "x-emulator-fault"
_WAIT = re.compile(r"\bwait(?:=(\d{1,2}))?\b")
_OWN_MODEL = "emulator/by-version"


@router.post("/predictions")
async def create_by_version(request: Request) -> Response:
    """`version` is `owner/name:id`, `owner/name` or an id alone."""

    def read(body: Any) -> Creation:
        version = body.get("version") if isinstance(body, dict) else None
        if not isinstance(version, str) or not version:
            raise WrongUse("version: is required")
        model, _, only = version.rpartition(":")
        if not model:
            model, only = (version, "latest") if "/" in version else (_OWN_MODEL, version)
        return creation_of(body, "predictions", model, only, emulator_of(request).options.long_side_px)

    return await _create(request, read)


@router.post("/models/{owner}/{name}/predictions")
async def create_by_model(request: Request, owner: str, name: str) -> Response:
    def read(body: Any) -> Creation:
        side_px = emulator_of(request).options.long_side_px
        return creation_of(body, "predictions", f"{owner}/{name}", "hidden", side_px)

    return await _create(request, read)


@router.post("/models/{owner}/{name}/versions/{version}/trainings")
async def create_training(request: Request, owner: str, name: str, version: str) -> Response:
    emulator = emulator_of(request)

    def read(body: Any) -> Creation:
        destination = body.get("destination") if isinstance(body, dict) else None
        if not isinstance(destination, str) or destination.count("/") != 1:
            raise WrongUse("destination: must be owner/name")
        side_px = emulator.options.long_side_px
        return creation_of(body, "trainings", f"{owner}/{name}", version, side_px, destination)

    return await _create(request, read)


@router.get("/{kind}/{prediction_id}")
async def get_one(request: Request, kind: str, prediction_id: str) -> Response:
    found = _found(request, kind, prediction_id)
    return found if isinstance(found, Response) else json_answer(body_of(found))


@router.post("/{kind}/{prediction_id}/cancel")
async def cancel_one(request: Request, kind: str, prediction_id: str) -> Response:
    """One that is over is answered as it is."""
    found = _found(request, kind, prediction_id)
    if isinstance(found, Response):
        return found
    emulator = emulator_of(request)
    emulator.counts.totals[f"{kind}_cancels_asked"] += 1
    emulator.runner.cancel(found)
    return json_answer(body_of(found))


@router.get("/webhooks/default/secret")
async def webhook_secret(request: Request) -> Response:
    return json_answer({"key": emulator_of(request).options.webhook_secret})


@router.get("/account")
async def account(request: Request) -> Response:
    return json_answer({"type": "organization", "username": "emulator", "name": "Emulator", "github_url": None})


@router.get("/{kind}")
async def list_some(request: Request, kind: str) -> Response:
    emulator = emulator_of(request)
    if kind not in emulator.stores:
        return _not_found()
    if _read_fails(request):
        return problem(500, "Internal server error")
    query = request.query_params
    try:
        moments = [_moment(query.get(name)) for name in ("created_after", "created_before")]
        found, older, newer = emulator.stores[kind].page(query.get("cursor"), *moments)
    except WrongUse as error:
        return problem(400, str(error))
    here = f"{_base_url(request)}/v1/{kind}?cursor="
    return json_answer(
        {
            "previous": here + newer if newer else None,
            "next": here + older if older else None,
            "results": [body_of(prediction) for prediction in found[:PAGE_SIZE]],
        }
    )


async def _create(request: Request, read: Any) -> Response:
    emulator = emulator_of(request)
    try:
        creation: Creation = read(await json_body(request))
        header_marks = marks_in_header(request.headers.get(FAULT_HEADER, ""))
    except TooLarge:
        return problem(413, "The request body is too large")
    except msgspec.DecodeError as error:
        return problem(400, f"The request body is not JSON: {error}")
    except WrongUse as error:
        return problem(422, str(error), "Input validation failed")
    attempt, faults = emulator.strike(creation, header_marks)
    refused = _refusal(emulator, creation, attempt, faults)
    if refused is not None:
        return refused
    prediction = emulator.create(creation, header_marks, attempt, _base_url(request))
    if Fault.LOST_ANSWER in faults:
        return NoAnswer()
    if Fault.BROKEN_ANSWER in faults:
        return problem(502, "Bad gateway")
    if Fault.SLOW_ANSWER in faults:
        await asyncio.sleep(emulator.options.slow_answer_s)
    wanted = _WAIT.search(request.headers.get("prefer", ""))
    if wanted:
        await emulator.runner.wait(prediction, float(wanted[1] or 60))
    headers = {}
    if emulator.options.per_minute:
        headers = {"ratelimit-remaining": str(emulator.throttle.remaining), "ratelimit-reset": "1"}
    return json_answer(body_of(prediction), 201, headers)


def _refusal(emulator: Emulator, creation: Creation, attempt: int, faults: frozenset[Fault]) -> Response | None:
    """The answer of a call that creates nothing, or None when it goes on."""
    totals, options = emulator.counts.totals, emulator.options
    if Fault.RATE_LIMITED in faults:
        totals["refused_429"] += 1
        return _throttled(options.retry_after_s)
    if Fault.SERVER_ERROR in faults:
        totals["refused_5xx"] += 1
        status = (500, 502, 503)[int(share_of(options.seed, "status", creation.identity, attempt) * 3)]
        return problem(status, "Something went wrong on our side")
    if Fault.REFUSED in faults:
        totals["refused_422"] += 1
        return problem(422, "The input was refused by the model", "Input validation failed")
    if Fault.LOST_REQUEST in faults:
        totals["requests_lost"] += 1
        return NoAnswer()
    if creation.destination and options.destinations_must_exist and creation.destination not in emulator.models:
        return problem(404, "The specified training destination does not exist")
    wait_s = emulator.throttle.take(time.time())
    if wait_s:
        totals["refused_429"] += 1
        return _throttled(math.ceil(wait_s))
    return None


def _throttled(retry_after_s: int) -> Response:
    detail = f"Request was throttled. Your rate limit resets in ~{retry_after_s}s."
    return problem(429, detail, headers={"Retry-After": str(retry_after_s)}, retry_after=retry_after_s)


def _found(request: Request, kind: str, prediction_id: str) -> Prediction | Response:
    store = emulator_of(request).stores.get(kind)
    if store is None:
        return _not_found()
    if _read_fails(request):
        return problem(500, "Internal server error")
    return store.get(prediction_id) or _not_found()


def _read_fails(request: Request) -> bool:
    asked: tuple[Mark, ...] = ()
    try:
        asked = marks_in_header(request.headers.get(FAULT_HEADER, ""))
    except WrongUse:
        asked = ()
    return emulator_of(request).read_fails(asked)


def _not_found() -> Response:
    return problem(404, "The requested resource could not be found.", "Not found")


def _base_url(request: Request) -> str:
    options = emulator_of(request).options
    return options.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"


def _moment(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        raise WrongUse("created_after and created_before: must be RFC 3339 times") from None
