"""The spend breaker: no hour sees more runs begun than the setting allows, whoever begins them."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.dispatcher import Dispatcher

from .world import World, until


async def settle_down(dispatcher: Dispatcher, rounds: int = 6) -> int:
    """So many rounds, each worked off; how much was submitted."""
    submitted = 0
    for _ in range(rounds):
        submitted += await dispatcher.tick()
        await dispatcher.hands.drain(5.0)
    return submitted


def breaker() -> float | None:
    return REGISTRY.get_sample_value("darkroom_spend_breaker_open")


async def an_hour_passes(world: World) -> None:
    await world.pool.execute("UPDATE provider_starts SET minute = minute - interval '61 minutes'")


async def test_when_the_hour_is_used_up_the_queue_is_held_and_it_is_said(world: World) -> None:
    await world.queue("u1", *(f"a{number}" for number in range(5)))
    await world.queue("u2", *(f"b{number}" for number in range(5)))
    first, second = world.dispatcher(per_hour_max=7), world.dispatcher(per_hour_max=7)
    with capture_logs() as lines:
        assert await settle_down(first, 1) + await settle_down(second) + await settle_down(first) == 7
    assert await world.states() == {"running": 7, "queued": 3}
    held = [line for line in lines if line["event"] == "spending stopped, the queue is held"]
    assert {(line["log_level"], line["per_hour_max"]) for line in held} == {("warning", 7)}
    assert len(held) <= 2, "once a worker, not once a round"
    assert breaker() == 1.0

    await an_hour_passes(world)
    with capture_logs() as lines:
        assert await settle_down(first) == 3
    assert [line["event"] for line in lines if "spending" in line["event"]] == ["spending goes on"]
    assert breaker() == 0.0
    assert (await world.counts())["paid_twice"] == {}


async def test_a_worker_that_starts_anew_knows_what_was_spent(world: World) -> None:
    await world.queue("u1", "r1", "r2", "r3")
    assert await settle_down(world.dispatcher(per_hour_max=2)) == 2
    assert await settle_down(world.dispatcher(per_hour_max=2)) == 0
    assert await settle_down(world.dispatcher(per_hour_max=3)) == 1


async def test_without_a_limit_nothing_is_held(world: World) -> None:
    await world.queue("u1", *(f"r{number}" for number in range(6)))
    assert await settle_down(world.dispatcher(per_hour_max=0)) == 6
    assert REGISTRY.get_sample_value("darkroom_provider_started_last_hour") == 6.0


@pytest.mark.parametrize("fault", ["server_error", "rate_limited", "refused"])
async def test_what_the_provider_has_not_begun_is_not_spent(world: World, fault: str) -> None:
    await world.queue("u1", "r1", prompt=f"a lake [[fault:{fault}*9]]")
    assert await settle_down(world.dispatcher(per_hour_max=1), 1) == 1
    assert await world.pool.fetchval("SELECT sum(started) FROM provider_starts") == 0
    await world.queue("u2", "r2")
    assert await settle_down(world.dispatcher(per_hour_max=1), 1) == 1
    assert await world.runs_of("u2", "r2") == 1


async def test_a_run_whose_answer_was_lost_is_spent(world: World) -> None:
    await world.queue("u1", "r1", prompt="a lake [[fault:lost_answer]]")
    await world.queue("u2", "r2")
    dispatcher = world.dispatcher(per_hour_max=1)
    assert await settle_down(dispatcher) == 1
    assert await world.pool.fetchval("SELECT sum(started) FROM provider_starts") == 1


async def test_the_breaker_closes_when_nothing_waits(world: World) -> None:
    await world.queue("u1", "r1", "r2")
    dispatcher = world.dispatcher(per_hour_max=1)
    assert await settle_down(dispatcher) == 1
    assert breaker() == 1.0
    await world.pool.execute("UPDATE generations SET state = 'cancelled' WHERE state = 'queued'")

    async def is_closed() -> bool:
        await dispatcher.tick()
        return breaker() == 0.0

    await until(is_closed, "the breaker is closed")
