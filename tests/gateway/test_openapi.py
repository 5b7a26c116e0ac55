"""The OpenAPI document is complete, and the running gateway keeps to it whatever is asked."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cli.documents import openapi_text
from streams.settings import Settings
from tests.gateway.callers import ADA, DASHBOARD, PRODUCER, app_of
from tests.gateway.conftest import SECRET
from tests.support.waiting import wait_until

# Streams do not end by themselves, so they have no answer that could be held against a document.
ENDLESS = {("GET", "/v1/events")}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATION_S = 3.0
EXAMPLES_MAX = 20
KNOWN = {
    "request_id": ["picture", "waiting", "failed", "short", "never"],
    "image_id": ["p-ada-picture-0", "p-ada-set-1", "p-ada-none-0"],
    "key": ["images/no-such.jpg"],
    "code": ["ambiguous", "no_such"],
    "user": ["ada", "ben", "nemo"],
    "user_id": ["ada", "ben"],
    "prefer": ["wait=0"],
    "cursor": ["v3"],
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = httpx.Response(200, text=openapi_text()).json()
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_every_route_says_what_it_answers_with(document: dict[str, Any]) -> None:
    seen = set()
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        seen.add(where)
        assert operation["summary"], where
        assert set(operation["responses"]) & {"200", "201", "202", "204"}, where
        for status, response in operation["responses"].items():
            if status >= "400" and status != "416":
                assert set(response["content"]) == {"application/problem+json"}, (where, status)
            elif status in ("200", "201", "202"):
                contents = response["content"].values()
                assert all(content.get("schema") for content in contents), (where, status)
    assert {
        "GET /v1/generations/{request_id}", "DELETE /v1/generations/{request_id}", "POST /v1/generations",
        "GET /v1/generations/{request_id}/timeline", "GET /v1/credits", "GET /v1/credits/ledger", "GET /v1/gallery",
        "POST /v1/gallery/{image_id}/favorite", "DELETE /v1/gallery/{image_id}", "GET /v1/events",
    } <= seen  # fmt: skip


def test_every_route_that_asks_for_a_token_says_so(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert [scheme["scheme"] for scheme in schemes.values()] == ["bearer"]
    for method, path, operation in operations(document):
        is_open = not path.startswith("/v1/") or path.startswith(("/v1/webhooks", "/v1/images"))
        assert ("security" in operation) != is_open, (method, path)
        assert is_open or {"401", "429", "500", "503"} <= set(operation["responses"]), (method, path)


def test_every_reference_leads_somewhere_and_the_framework_s_errors_are_gone(document: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    schemas = document["components"]["schemas"]
    assert {reference.rpartition("/")[2] for reference in found} <= set(schemas)
    assert "#/components/schemas/Problem" in found
    assert "HTTPValidationError" not in schemas


async def test_the_gateway_serves_what_is_committed(offline: httpx.AsyncClient, document: dict[str, Any]) -> None:
    assert (await offline.get("/openapi.json")).json() == document


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """The gateway on a port of its own, in a thread with a loop of its own; its URL."""
    server = uvicorn.Server(
        uvicorn.Config(app_of(settings), host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, timeout_s=30.0, message="the gateway did not begin to serve")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20.0)


@pytest.mark.timeout(280)
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.usefixtures("applied_topics")
def test_the_running_gateway_keeps_to_the_document_whatever_is_asked(books_settings: Settings) -> None:
    number = random.randrange(2**32)
    print(f"seed {number}")
    settings = books_settings.model_copy(update={"replicate_webhook_secret": SECRET, "token_requests_per_s": 10_000.0})
    with served(settings) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        asked = 0
        for result in schema.get_all_operations():
            operation = result.ok()
            if (operation.method.upper(), operation.path) not in ENDLESS:
                asked += _ask(operation, number)
    assert asked > 150


def _ask(operation: Any, number: int) -> int:
    """Ask one operation for a while what fits its description and what does not; how often it was asked."""
    until = time.monotonic() + OPERATION_S
    count = 0
    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @seed(number)
    @hypothesis_settings(
        max_examples=EXAMPLES_MAX,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        nonlocal count
        for values in (case.path_parameters, case.query, case.headers):
            for name in [name for name in values or () if name.lower() in KNOWN]:
                if data.draw(st.booleans()) or name.lower() == "prefer":
                    values[name] = data.draw(st.sampled_from(KNOWN[name.lower()]))
        headers = data.draw(st.sampled_from([ADA, PRODUCER, DASHBOARD, {}]))
        if time.monotonic() < until:
            count += 1
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=30.0)

    ask()
    return count
