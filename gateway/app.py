"""The gateway as an application: its routes, and what they share while it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from adapters.blobs import open_blobs
from gateway import health, images, problems, webhooks
from gateway.health import KafkaProbe
from gateway.webhooks import WebhookDoor
from streams.facts import FactPublisher
from streams.http_metrics import HttpMetrics
from streams.publisher import Publisher
from streams.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """An application; nothing is connected before the first request needs it.

    Raises BadSetting: Kafka's address, the webhook secret or the blob store's location cannot be used.
    """
    bootstrap = settings.require("kafka")
    publisher = Publisher(bootstrap, client_id="darkroom-gateway", topic_prefix=settings.topic_prefix)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await publisher.close()

    app = FastAPI(title="Darkroom", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.webhook_door = WebhookDoor(settings.replicate_webhook_secret, FactPublisher(publisher, "gateway"))
    app.state.blobs = open_blobs(settings.blob_location)
    app.state.kafka_probe = KafkaProbe(bootstrap)
    problems.install(app)
    app.add_middleware(HttpMetrics)
    for part in (webhooks, images, health):
        app.include_router(part.router)
    return app
