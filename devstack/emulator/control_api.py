"""The emulator's own endpoints: health, counts for an audit, and faults switched while it runs."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from adapters.exposition import EMULATOR, exposition
from devstack.emulator.answers import TooLarge, emulator_of, json_answer, json_body, problem
from devstack.emulator.faults import FAULTS
from models.errors import WrongUse

router = APIRouter()


@router.get("/healthz")
@router.get("/readyz")
async def health(request: Request) -> Response:
    return json_answer({"status": "ok"})


@router.get("/metrics")
async def metrics() -> Response:
    """For Prometheus."""
    return Response(exposition(EMULATOR), media_type=CONTENT_TYPE_LATEST)


@router.get("/emulator/counts")
async def counts(request: Request) -> Response:
    """`?requests=false` leaves out the long map; `?user=&request=` gives one request's predictions."""
    query = request.query_params
    emulator = emulator_of(request)
    report = emulator.counts.report(
        query.get("requests", "true") != "false", query.get("user", ""), query.get("request", "")
    )
    return json_answer({**report, "statuses": emulator.statuses()})


@router.get("/emulator/faults")
async def faults(request: Request) -> Response:
    return json_answer(_faults(request))


@router.put("/emulator/faults")
async def set_faults(request: Request) -> Response:
    """Body: `{"lost_answer": 0.1, …}`, all rates from now on; the others become 0."""
    try:
        body = await json_body(request)
        if not isinstance(body, dict):
            raise WrongUse("the body must be an object of fault names and probabilities")
        emulator_of(request).set_rates(body)
    except TooLarge:
        return problem(413, "The request body is too large")
    except (msgspec.DecodeError, WrongUse) as error:
        return problem(422, str(error))
    return json_answer(_faults(request))


def _faults(request: Request) -> dict[str, Any]:
    rates = {fault.value: rate for fault, rate in emulator_of(request).rates.items()}
    known = {fault.value: {"stage": stage.value, "does": does} for fault, (stage, does) in FAULTS.items()}
    return {"rates": rates, "known": known}
