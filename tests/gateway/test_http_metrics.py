"""HTTP metrics: routes by their template, whatever is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import StreamingResponse

from adapters.exposition import GATEWAY, exposition
from streams.http_metrics import HttpMetrics
from tests.support.scraping import Scrape, parsed

NAME = "darkroom_http_requests_total"


def now() -> Scrape:
    return parsed(exposition(GATEWAY).decode())


def grown(before: Scrape, name: str = NAME) -> dict[tuple[str, ...], float]:
    """By (method, route, status), what has been counted since."""
    changed = {}
    for (found, labels), value in now().values.items():
        if found == name and value != before.values.get((found, labels), 0.0):
            known = dict(labels)
            key = tuple(known[label] for label in ("method", "route", "status") if label in known)
            changed[key] = value - before.values.get((found, labels), 0.0)
    return changed


async def test_the_gateway_counts_by_route_and_never_by_what_was_asked_for(offline: httpx.AsyncClient) -> None:
    before = now()
    await offline.get("/healthz")
    for number in range(3):
        await offline.get(f"/v1/images/images/{number}.png")
    await offline.get("/wp-admin/../../etc/passwd?x=1")
    await offline.get("/nothing/here")
    await offline.delete("/healthz")
    await offline.request("BREW", "/nothing/here")
    assert grown(before) == {
        ("GET", "/healthz", "200"): 1,
        ("GET", "/v1/images/{key:path}", "404"): 3,
        ("GET", "other", "404"): 2,
        ("DELETE", "/healthz", "405"): 1,
        ("other", "other", "404"): 1,
    }
    assert grown(before, "darkroom_http_request_seconds_count")["GET", "/v1/images/{key:path}"] == 3


@pytest.fixture
async def app_of_a_test() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.add_middleware(HttpMetrics)
    router = APIRouter(prefix="/below")

    @router.get("/{name}")
    async def named(name: str) -> str:
        if name == "broken":
            raise RuntimeError("says the test")
        await asyncio.Event().wait()
        return name

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                assert now().value("darkroom_http_open_requests") == 1
                yield b"x"

        return StreamingResponse(body())

    app.include_router(router)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_a_broken_route_counts_as_500_a_left_one_as_499_and_a_stream_is_open_until_its_end(
    app_of_a_test: httpx.AsyncClient,
) -> None:
    before = now()
    assert (await app_of_a_test.get("/below/broken")).status_code == 500
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await app_of_a_test.get("/below/patience")
    assert (await app_of_a_test.get("/stream")).text == "xxx"
    assert grown(before) == {
        ("GET", "/below/{name}", "500"): 1,
        ("GET", "/below/{name}", "499"): 1,
        ("GET", "/stream", "200"): 1,
    }
    assert now().value("darkroom_http_open_requests") == 0
