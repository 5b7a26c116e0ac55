"""What a scrape of the fulfilment role learns from Postgres."""

from __future__ import annotations

from prometheus_client import REGISTRY

from adapters.queries import load_queries
from services.backlog import STATES, Backlog

from .world import World


def shown(name: str) -> dict[str, float]:
    return {state: REGISTRY.get_sample_value(name, {"state": state}) or 0.0 for state in STATES}


async def test_a_scrape_shows_unfinished_requests_by_state_and_the_age_of_the_oldest(world: World) -> None:
    await world.queue("u1", "a", age_s=100)
    await world.queue("u1", "b", "c", age_s=20)
    await world.queue("u2", "d", state="storing", age_s=500)
    await world.queue("u2", "e", state="completed", age_s=5000)
    await Backlog(world.pool).refresh()
    assert shown("darkroom_unfinished_requests") == {"queued": 3, "submitting": 0, "running": 0, "storing": 1}
    ages_s = shown("darkroom_oldest_unfinished_request_age_seconds")
    assert 100 <= ages_s["queued"] < 160
    assert 500 <= ages_s["storing"] < 560
    assert (ages_s["submitting"], ages_s["running"]) == (0, 0)

    await world.pool.execute("UPDATE generations SET state = 'failed' WHERE state = 'queued'")
    await Backlog(world.pool).refresh()
    assert shown("darkroom_unfinished_requests")["queued"] == 0
    assert shown("darkroom_oldest_unfinished_request_age_seconds")["queued"] == 0


async def test_runs_of_the_last_hour_are_forgotten_also_while_nothing_is_claimed(world: World) -> None:
    def begun() -> float | None:
        return REGISTRY.get_sample_value("darkroom_provider_started_last_hour")

    await world.queue("u1", "a", "b")
    dispatcher = world.dispatcher(per_hour_max=9)
    assert await dispatcher.tick() == 2
    await dispatcher.hands.drain(5.0)
    await Backlog(world.pool).refresh()
    assert (begun(), REGISTRY.get_sample_value("darkroom_provider_starts_per_hour_max")) == (2, 9)
    await world.pool.execute("UPDATE provider_starts SET minute = minute - interval '61 minutes'")
    await Backlog(world.pool).refresh()
    assert begun() == 0


async def test_the_backlog_is_answered_from_the_index_of_unfinished_work(world: World) -> None:
    await world.pool.execute(
        "INSERT INTO generations (user_id, request_id, operation, state, cost, balance, version, prompt, options,"
        " partition, admitted_at) SELECT 'u', 'r' || n, 'maya.image', 'completed', 1, 1, 1, 'x', '{}', 0, now()"
        " FROM generate_series(1, 5000) n"
    )
    await world.queue("u1", "a")
    await world.pool.execute("ANALYZE generations")
    rows = await world.pool.fetch("EXPLAIN " + load_queries("backlog")["unfinished_by_state"])
    plan = "\n".join(row[0] for row in rows)
    assert "generations_due" in plan, plan
    assert "Seq Scan" not in plan, plan
