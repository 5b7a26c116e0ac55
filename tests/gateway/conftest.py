"""The gateway's application on real Kafka, and a provider that signs."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from standardwebhooks import Webhook

from gateway.app import create_app
from streams.settings import Settings, load_settings
from tests.cli.conftest import books_url, clean_books  # noqa: F401
from tests.conftest import free_port
from tests.gateway.callers import caller_of
from tests.support.s3 import s3_server

SECRET = "whsec_" + base64.b64encode(b"the provider and we know this one").decode()
PATH = "/v1/webhooks/replicate"
QUERY = {"user": "u1", "request": "r1"}


def prediction(**changed: Any) -> dict[str, Any]:
    """A body as the provider sends it."""
    return {"id": "p1", "status": "succeeded", "output": ["http://x/out-0.jpg"], "logs": "x" * 5000} | changed


def signed(body: bytes, *, secret: str = SECRET, ago_s: float = 0.0, message_id: str = "msg_1") -> dict[str, str]:
    """Headers that a provider with this secret would send."""
    at = time.time() - ago_s
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


@pytest.fixture
def offline_settings(tmp_path: Path) -> Settings:
    """For what is decided before Kafka or Postgres is asked: nobody listens there."""
    away = "postgresql://darkroom@127.0.0.1:9/darkroom"
    return load_settings(
        kafka="127.0.0.1:9", postgres=away, redis="redis://127.0.0.1:9", home=tmp_path, replicate_webhook_secret=SECRET
    )


@pytest.fixture
async def offline(offline_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(offline_settings) as made:
        yield made


@pytest.fixture
def gateway_settings(settings: Settings, applied_topics: list[str]) -> Settings:
    return settings.model_copy(update={"replicate_webhook_secret": SECRET})


@pytest.fixture
async def client(gateway_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(gateway_settings) as made:
        yield made


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with these settings."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as made,
    ):
        yield made


async def records_of(settings: Settings, topic: str) -> list[Any]:
    """All records that are on a topic now."""
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + topic, bootstrap_servers=settings.require("kafka"), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        records: list[Any] = []
        while len(records) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records.extend(batch)
        return records
    finally:
        await consumer.stop()


def fact_of(record: Any) -> dict[str, Any]:
    """A record's value."""
    fact: dict[str, Any] = msgspec.json.decode(record.value)
    return fact


@pytest.fixture
def books_settings(settings: Settings, books_url: str) -> Settings:  # noqa: F811
    """Clean books in Postgres; no topics yet."""
    return settings.model_copy(update={"postgres": books_url})


@pytest.fixture
async def books(books_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with clean books; it knows the tokens of tests/gateway/callers.py."""
    async with caller_of(books_settings) as made:
        yield made


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """An S3-compatible server with an empty bucket."""
    with s3_server(free_port()) as url:
        yield url
