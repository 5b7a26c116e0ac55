"""The gateway as a whole: health, metrics, and the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from models.topics import PREDICTIONS
from streams.settings import Settings

from .conftest import PATH, QUERY, SECRET, prediction, records_of, signed

PROGRAM = "from cli.main import main; main()"


async def test_it_is_ready_while_kafka_answers(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).text == "ok\n"
    assert (await client.get("/readyz")).text == "ready\n"


async def test_it_is_alive_but_not_ready_while_kafka_is_away(offline: httpx.AsyncClient) -> None:
    assert (await offline.get("/healthz")).status_code == 200
    # As some load balancers ask.
    assert (await offline.head("/healthz")).status_code == 200
    assert (await offline.head("/readyz")).status_code == 503
    response = await offline.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")


async def test_metrics_count_what_the_door_did(client: httpx.AsyncClient) -> None:
    def taken(text: str) -> float:
        lines = [line for line in text.splitlines() if line.startswith('darkroom_webhooks_total{outcome="taken"}')]
        return float(lines[0].split()[1]) if lines else 0.0

    before = taken((await client.get("/metrics")).text)
    body = json.dumps(prediction()).encode()
    await client.post(PATH, content=body, headers=signed(body), params=QUERY)
    assert taken((await client.get("/metrics")).text) == before + 1


async def test_the_api_describes_itself(offline: httpx.AsyncClient) -> None:
    paths = (await offline.get("/openapi.json")).json()["paths"]
    assert {PATH, "/v1/images/{key}", "/healthz", "/readyz"} <= set(paths)


@contextmanager
def command(settings: Settings, **changed: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`darkroom gateway` as a process, once it is ready: (the process, its URL)."""
    environment = {
        "DARKROOM_KAFKA": settings.require("kafka"),
        "DARKROOM_POSTGRES": settings.require("postgres"),
        "DARKROOM_REDIS": settings.require("redis"),
        "DARKROOM_HOME": str(settings.home),
        "DARKROOM_TOPIC_PREFIX": settings.topic_prefix,
        "DARKROOM_GATEWAY": "127.0.0.1:0",
        "REPLICATE_WEBHOOK_SECRET": SECRET,
    } | changed
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "gateway"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[0] == "ready"
        yield process, words[1]
    finally:
        process.kill()
        process.wait(5)


async def test_the_command_serves_until_term_and_loses_nothing_it_has_answered(gateway_settings: Settings) -> None:
    body = json.dumps(prediction()).encode()
    with command(gateway_settings) as (process, url):
        async with httpx.AsyncClient(base_url=url, timeout=10.0) as client:
            assert (await client.get("/readyz")).status_code == 200
            response = await client.post(PATH, content=body, headers=signed(body), params=QUERY)
            assert response.status_code == 204
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - began < 8.0
    assert len(await records_of(gateway_settings, PREDICTIONS)) == 1


def test_a_port_that_is_taken_is_one_clear_line(settings: Settings, monkeypatch: object, capsys: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, "gateway"],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "DARKROOM_KAFKA": "127.0.0.1:9", "DARKROOM_POSTGRES": settings.require("postgres"),
                 "DARKROOM_REDIS": settings.require("redis"), "DARKROOM_GATEWAY": address,
                 "DARKROOM_HOME": str(settings.home)},
        )  # fmt: skip
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1
    assert "DARKROOM_GATEWAY" in process.stderr
