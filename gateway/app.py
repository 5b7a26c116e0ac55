"""The gateway as an application: its routes, and what they share while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from adapters.blobs import open_blobs
from adapters.credit_reads import CreditReads
from adapters.postgres import close_pool, open_pool
from adapters.token_key import signing_key
from adapters.tokens import live_tokens
from gateway import (
    cancels,
    credits,
    documents,
    events,
    gallery,
    generation_reads,
    grants,
    health,
    images,
    openapi,
    problems,
    requests,
    token_routes,
    webhooks,
)
from gateway.guard import GuardedApp
from gateway.health import KafkaProbe
from gateway.searching import Searches
from gateway.signing import Signer
from gateway.tokens import TokenBook
from gateway.webhooks import WebhookDoor
from streams.event_hub import EventHub
from streams.facts import FactPublisher
from streams.following import Followers
from streams.http_metrics import HttpMetrics
from streams.producer import Producer
from streams.publisher import Publisher
from streams.settings import Settings

CLOSE_S = 3.0
SEND_S = 2.0
"""How long a request may be on its way to Kafka before it is given up: it must not arrive after its 503."""
POSTGRES_POOL_MAX = 10


def create_app(settings: Settings) -> FastAPI:
    """An application; nothing is connected before the first request needs it.

    `app.state.pool` is there while it runs. Raises BadSetting: the address of Kafka, Postgres or Redis, the webhook
    secret or the blob store's location cannot be used. SetupFailed: there is no key to sign tokens with.
    """
    bootstrap, database = settings.require("kafka"), settings.require("postgres")
    cache = settings.require("redis")
    publisher = Publisher(bootstrap, client_id="darkroom-gateway", topic_prefix=settings.topic_prefix)
    pool_max = min(POSTGRES_POOL_MAX, settings.postgres_pool_max)

    producer = Producer(settings, client_id="darkroom-gateway-requests", request_timeout_s=SEND_S)
    hub = EventHub(settings)
    followers = Followers(settings, hub)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = {
            asyncio.create_task(hub.run(), name="read events"),
            asyncio.create_task(events.check_streams(followers), name="check streams"),
        }
        # Connects nowhere yet: while Postgres is away, whoever needs it raises Unavailable, and pictures still go out.
        app.state.pool = await open_pool(database, size_max=pool_max, application="darkroom-gateway")
        app.state.credits = CreditReads.connect(cache, app.state.pool)
        try:
            yield
        finally:
            followers.close()
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=CLOSE_S)
            await app.state.credits.close()
            await producer.close()
            await publisher.close()
            await close_pool(app.state.pool)

    app = GuardedApp(
        settings, title="Darkroom", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    signer = Signer(signing_key(settings.token_key, settings.home))
    app.state.tokens = TokenBook(lambda: live_tokens(app.state.pool), signer)
    app.state.webhook_door = WebhookDoor(settings.replicate_webhook_secret, FactPublisher(publisher, "gateway"))
    app.state.blobs = open_blobs(settings.blob_location)
    app.state.signed_links = settings.signed_links
    app.state.kafka_probe = KafkaProbe(bootstrap)
    app.state.partitions = settings.partitions
    app.state.hub = hub
    app.state.followers = followers
    app.state.producer = producer
    app.state.searches = Searches(settings)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(HttpMetrics)
    for part in (
        requests,
        generation_reads,
        cancels,
        credits,
        gallery,
        grants,
        events,
        token_routes,
        images,
        webhooks,
        documents,
        health,
        problems,
    ):
        app.include_router(part.router)
    return app
