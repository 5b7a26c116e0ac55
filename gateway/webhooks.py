"""The webhook door: what the provider reports becomes a fact on Kafka, and only then an answer.

Reads:      POST /v1/webhooks/replicate?user=…&request=…
Writes:     predictions.updated.v1
Guarantees: nothing unsigned, stale or oversized goes in; 2xx means that the fact is on Kafka. A webhook that comes
            twice is published twice under the same event id.
Fails:      503 while Kafka is away; the provider sends it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from fastapi import APIRouter, Request, Response
from replicate.webhook import Webhooks, WebhookSigningSecret

from gateway.bodies import read_body
from gateway.metrics import WEBHOOK_SECONDS, WEBHOOKS
from gateway.problems import Problem, problems, unavailable
from models.errors import BadSetting, Unavailable
from models.facts import PredictionUpdated, shortened_prediction
from models.requests import ID_PATTERN, is_id
from streams.facts import FactPublisher

log = structlog.get_logger()

# A training's report carries its whole log.
BODY_BYTES_MAX = 1 << 20
TOLERANCE_S = 300
PUBLISH_TIMEOUT_S = 2.5
PUBLISHING_MAX = 1000
AWAY = "the event log is not available; send it again"
STATUS_CHARACTERS_MAX = 64
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

router = APIRouter(tags=["webhooks"])

_ID_SCHEMA = {"type": "string", "pattern": ID_PATTERN.replace(r"\Z", "$")}


class WebhookDoor:
    """Checks webhooks and publishes what they say."""

    def __init__(self, secret: str, facts: FactPublisher) -> None:
        if secret and secret.count("_") != 1:
            raise BadSetting("REPLICATE_WEBHOOK_SECRET", "must be whsec_ and base64, as the provider shows it")
        self._secret = WebhookSigningSecret(key=secret) if secret else None
        self._facts = facts
        self._publishing: set[asyncio.Task[None]] = set()

    async def take(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> None:
        """Publish one webhook. Raises Problem: 400, 401 or 503."""
        self._verify(headers, body)
        publishing = self._publish(fact_in(query, body))
        # A fact that is late is not taken back: it may still arrive, and then comes twice, which is harmless.
        await asyncio.wait({publishing}, timeout=PUBLISH_TIMEOUT_S)
        if not publishing.done() or publishing.exception() is not None:
            raise unavailable(AWAY)

    def _publish(self, fact: PredictionUpdated) -> asyncio.Task[None]:
        if len(self._publishing) >= PUBLISHING_MAX:
            raise unavailable(AWAY)
        publishing = asyncio.create_task(self._facts.prediction(fact), name="publish webhook")
        self._publishing.add(publishing)
        publishing.add_done_callback(self._on_published)
        return publishing

    def _on_published(self, publishing: asyncio.Task[None]) -> None:
        self._publishing.discard(publishing)
        if not publishing.cancelled() and (error := publishing.exception()) is not None:
            log.warning("webhook not published", why=str(error) if isinstance(error, Unavailable) else repr(error))

    def _verify(self, headers: Mapping[str, str], body: bytes) -> None:
        if self._secret is None:
            raise unavailable("no webhook secret is set; set REPLICATE_WEBHOOK_SECRET")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise Problem(400, "bad_body", "the body is not UTF-8") from error
        signed = {name: headers[name] for name in HEADERS if name in headers}
        try:
            Webhooks.validate(headers=signed, body=text, secret=self._secret, tolerance=TOLERANCE_S)
        except ValueError as error:
            raise Problem(401, "bad_signature", "the webhook is not signed by the provider, or too long ago") from error


def fact_in(query: Mapping[str, str], body: bytes) -> PredictionUpdated:
    """What a verified webhook says, of the request that its URL names. Raises Problem 400."""
    user_id, request_id = query.get("user"), query.get("request")
    if not is_id(user_id) or not is_id(request_id):
        raise Problem(400, "bad_query", "user and request must be ids")
    try:
        prediction: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Problem(400, "bad_body", "the body is not JSON") from error
    prediction_id = prediction.get("id") if isinstance(prediction, dict) else None
    status = prediction.get("status") if isinstance(prediction, dict) else None
    if not is_id(prediction_id) or not isinstance(status, str) or not 0 < len(status) <= STATUS_CHARACTERS_MAX:
        raise Problem(400, "bad_body", "the body must be a prediction with an id and a status")
    return PredictionUpdated(
        request_id=request_id,
        user_id=user_id,
        status=status,
        source="webhook",
        prediction_id=prediction_id,
        prediction=shortened_prediction(prediction),
    )


@router.post(
    "/v1/webhooks/replicate",
    status_code=204,
    summary="The provider reports on a prediction",
    responses=problems("bad_body", "bad_query", "bad_signature", "too_slow", "too_large", "unavailable"),
    openapi_extra={
        "parameters": [
            *({"name": name, "in": "query", "required": True, "schema": _ID_SCHEMA} for name in ("user", "request")),
            *({"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in HEADERS),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
)
async def receive_webhook(request: Request) -> Response:
    """Answered only once the report is on Kafka."""
    door: WebhookDoor = request.app.state.webhook_door
    try:
        body = await read_body(request, BODY_BYTES_MAX)
        with WEBHOOK_SECONDS.time():
            await door.take(request.headers, request.query_params, body)
    except Problem as problem:
        WEBHOOKS.labels(problem.code).inc()
        raise
    WEBHOOKS.labels("taken").inc()
    return Response(status_code=204)
