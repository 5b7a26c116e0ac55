"""The door while Kafka is away: a clear answer soon, and nothing that was refused is done later."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest

from devstack.roster import read_roster
from gateway.app import create_app
from models.topics import REQUESTED
from streams.settings import Settings
from tests.faults.harness import World
from tests.faults.test_outages import breakable, fragile, kill_server, restart
from tests.gateway.test_requests import KnownTokens, post
from tests.support.waiting import eventually

__all__ = ["breakable", "fragile"]

ANSWER_S = 3.0
# What was given up must not arrive when Kafka is back: longer than any request may be on its way.
LATER_S = 5.0


@pytest.fixture
async def door(fragile: World) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(fragile.settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60) as made,
    ):
        app.state.tokens = KnownTokens()
        yield made


@contextmanager
def frozen(settings: Settings) -> Iterator[None]:
    """The broker stands still: connections stay, and nothing is answered."""
    pid = read_roster(settings.home / "stack.json")["kafka"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def refused(door: httpx.AsyncClient, key: str) -> httpx.Response:
    """An answer of 503 in time."""
    began = time.monotonic()
    answer = await post(door, "user-1", key)
    assert answer.status_code == 503, answer.text
    assert time.monotonic() - began < ANSWER_S
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["request_id"] == key
    return answer


@pytest.mark.parametrize("server", ["kafka"])
async def test_what_is_refused_while_kafka_is_away_is_not_done_later(
    fragile: World, door: httpx.AsyncClient, server: str
) -> None:
    await fragile.open_accounts(["user-1"], 100)
    worker = await fragile.start().ready()
    assert (await post(door, "user-1", "before")).status_code == 202

    kill_server(fragile.settings, "kafka")
    for number in range(3):
        await refused(door, f"killed-{number}")
    await restart(fragile.settings)

    async def again() -> bool:
        return (await post(door, "user-1", "killed-0")).status_code == 202

    await eventually(again, 60, "the door did not open again")
    later_at = time.monotonic() + LATER_S
    await eventually(lambda: time.monotonic() > later_at, LATER_S + 5)
    asked = {record.value for record in await fragile.read(REQUESTED)}
    assert not any(b"killed-1" in value or b"killed-2" in value for value in asked)
    assert worker.process.poll() is None
    async with fragile.database() as held:
        charges = await held.fetch("SELECT reference_id, count(*) FROM ledger WHERE kind = 'charge' GROUP BY 1")
    assert {tuple(row) for row in charges} == {("user-1/before", 1), ("user-1/killed-0", 1)}


@pytest.mark.parametrize("server", ["kafka"])
async def test_a_broker_that_stands_still_is_refused_in_time_and_ids_stay_safe(
    fragile: World, door: httpx.AsyncClient, server: str
) -> None:
    await fragile.open_accounts(["user-1"], 100)
    assert (await post(door, "user-1", "before", headers={"prefer": "wait=0"})).status_code == 202
    with frozen(fragile.settings):
        # The first may be on its way to the broker already: then it is there, under its id, and never twice.
        await refused(door, "frozen-0")
        await refused(door, "frozen-1")

    async def again() -> bool:
        answer = await post(door, "user-1", "frozen-0", headers={"prefer": "wait=0"})
        return answer.status_code == 202

    await eventually(again, 60, "the door did not open again")
    await fragile.start().ready()
    await fragile.until_acked("admission", REQUESTED, timeout_s=40)
    async with fragile.database() as held:
        charges = await held.fetch("SELECT reference_id, count(*) FROM ledger WHERE kind = 'charge' GROUP BY 1")
    counted = {row["reference_id"]: row["count"] for row in charges}
    assert counted["user-1/frozen-0"] == 1
    assert set(counted.values()) == {1}
