"""/healthz (the process is alive), /readyz (Kafka can be reached), /metrics."""

from __future__ import annotations

import asyncio
import time

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from adapters.exposition import GATEWAY, exposition
from gateway.problems import problems, unavailable

PROBE_TIMEOUT_S = 2.0
PROBE_VALID_S = 1.0

router = APIRouter(tags=["operations"])


class KafkaProbe:
    """Whether a broker answers; asked at most once in PROBE_VALID_S, whoever wants to know."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._asking = asyncio.Lock()
        self._answer = False
        self._answered_at = float("-inf")

    async def is_reachable(self) -> bool:
        """True when a broker has just sent its metadata."""
        async with self._asking:
            if time.monotonic() - self._answered_at > PROBE_VALID_S:
                self._answer = await self._ask()
                self._answered_at = time.monotonic()
            return self._answer

    async def _ask(self) -> bool:
        client = AIOKafkaClient(
            bootstrap_servers=self._bootstrap,
            client_id="darkroom-gateway-probe",
            request_timeout_ms=int(PROBE_TIMEOUT_S * 1000),
        )
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await client.bootstrap()
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await client.close()
        return True


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_class=PlainTextResponse, summary="Whether the process is alive")
async def healthz() -> str:
    """Always ok, if it answers at all."""
    return "ok\n"


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_class=PlainTextResponse,
    summary="Whether events can be taken",
    responses=problems("unavailable"),
)
async def readyz(request: Request) -> str:
    """503 while Kafka cannot be reached."""
    probe: KafkaProbe = request.app.state.kafka_probe
    if not await probe.is_reachable():
        raise unavailable("Kafka cannot be reached")
    return "ready\n"


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """For Prometheus."""
    return Response(exposition(GATEWAY), media_type=CONTENT_TYPE_LATEST)
