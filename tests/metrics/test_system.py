"""Every process of a running system, scraped after real traffic: what it counts is what was sent."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import ExitStack

from devstack.emulator.options import LOCAL_WEBHOOK_SECRET
from models.topics import (
    ADMITTED,
    CANCEL_REQUESTED,
    COMPLETED,
    CREDITS,
    DEAD_LETTERS,
    GRANTED,
    LIMITS,
    PREDICTIONS,
    REJECTED,
    REQUESTED,
    STORED,
)
from tests.admission.scene import ask, requests
from tests.faults.harness import Worker, World, request
from tests.gateway.test_gateway import command as gateway_command
from tests.services.conftest import QUICK
from tests.services.emulator import emulator_apart
from tests.support.scraping import Scrape, scrape
from tests.support.waiting import eventually

SETTLED_S = 60.0
TOPICS = {
    "admission": (REQUESTED, GRANTED),
    "fulfilment": (ADMITTED, PREDICTIONS, STORED, CANCEL_REQUESTED),
    "projections": (CREDITS,),
}


async def scraped(worker: Worker) -> Scrape:
    """At the address that the worker names when it is ready."""
    address = re.search(r"health on (\S+)", worker.output())
    assert address is not None, worker.output()
    return await asyncio.to_thread(scrape, address[1])


async def caught_up(role: str, worker: Worker) -> Scrape:
    """The first scrape that shows no lag; the ends of topics are asked for every 5 s."""

    async def without_lag() -> Scrape | None:
        found = await scraped(worker)
        for topic in TOPICS[role]:
            assert found.value("darkroom_lag_records", role=role, topic=topic) == 0, (topic, worker.output()[-500:])
            assert found.value("darkroom_oldest_record_age_seconds", role=role, topic=topic) == 0
        return found

    return await eventually(without_lag, SETTLED_S, f"{role} is behind")


async def test_every_process_counts_what_was_sent(world: World) -> None:
    with ExitStack() as ending:
        emulator_url = ending.enter_context(emulator_apart(QUICK))
        secret = {"REPLICATE_WEBHOOK_SECRET": LOCAL_WEBHOOK_SECRET}
        _, gateway_url = ending.enter_context(gateway_command(world.settings, **secret))
        provider = secret | {
            "REPLICATE_BASE_URL": emulator_url,
            "REPLICATE_API_TOKEN": "r8_test",
            "DARKROOM_PUBLIC_URL": gateway_url,
            "DARKROOM_PROVIDER_PER_MINUTE": "1200",
            "DARKROOM_PROVIDER_PER_HOUR": "500",
        }
        tight = {"policy": "feed.post", "limit": 2, "window_s": 3600, "mode": "enforce"}
        await world.produce(LIMITS, [("feed.post", json.dumps(tight).encode())])
        roles = {role: world.start(role, **provider) for role in TOPICS}
        for worker in roles.values():
            await worker.ready(60)
        await world.grant(["ada"], 40)
        await world.until_handled("grants", GRANTED)

        await ask(world, *requests("ada", 4), request("set", "ada", operation="studio.images"))
        await ask(world, request("ada-0", "ada"))
        await ask(world, request("ada-0", "ada", prompt="something else"))
        await ask(world, *requests("ada", 5, 100, operation="feed.post"))
        await ask(world, *requests("poor", 2))
        await ask(world, *requests("ada", 3, 200, operation="no.such"))
        # 5 others, without ids: more than any batch of one record.
        await world.produce(REQUESTED, [("ada", b"junk")] * 5)
        await world.produce(PREDICTIONS, [("ada", b"junk")] * 2)
        await world.produce(CREDITS, [("ada", b"junk")] * 3)
        admitted, cost = 4 + 1 + 2, 4 * 1 + 4 + 2 * 1

        async def all_completed() -> bool:
            return await world.fetch("SELECT count(*) FROM generations WHERE state = 'completed'") == [(admitted,)]

        await eventually(all_completed, SETTLED_S, f"not all completed; {world.tails()}")

        async def all_letters() -> bool:
            return len(await world.read(DEAD_LETTERS)) == 10

        await eventually(all_letters, SETTLED_S, "not all letters are there")
        found = {role: await caught_up(role, worker) for role, worker in roles.items()}
        gateway, emulator = await asyncio.to_thread(scrape, gateway_url), await asyncio.to_thread(scrape, emulator_url)

    decided = {"admitted": admitted, "repeated": 1, "conflict": 1, "rate_limited": 3, "insufficient_credits": 2,
               "invalid": 3, "dead": 5}  # fmt: skip
    admission, fulfilment, projections = found["admission"], found["fulfilment"], found["projections"]
    assert admission.by("darkroom_requests_total", "outcome") == decided
    sent = sum(decided.values())
    assert admission.value("darkroom_step_records_total", stream="admit") == sent
    assert admission.value("darkroom_step_size_records_sum", stream="admit") == sent
    assert admission.value("darkroom_decision_seconds_count") == sent
    assert 0 < (admission.value("darkroom_decision_seconds_sum") or 0) < sent * SETTLED_S
    assert admission.value("darkroom_limit_hits_total", policy="feed.post", rule="window") == 3
    assert admission.by("darkroom_credits_moved_total", "kind") == {"bonus": 40, "charge": cost}
    assert admission.by("darkroom_events_published_total", "topic") == {
        ADMITTED: admitted + 1, REJECTED: 1 + 3 + 2 + 3, CREDITS: admitted + 1, DEAD_LETTERS: 5,
    }  # fmt: skip
    assert admission.by("darkroom_dead_letters_total", "topic") == {REQUESTED: 5}
    assert admission.value("darkroom_limit_changes_total", outcome="applied") == 1

    ended = {"maya.image": 4, "studio.images": 1, "feed.post": 2}
    assert fulfilment.by("darkroom_generations_ended_total", "operation") == ended
    assert fulfilment.by("darkroom_generations_ended_total", "outcome") == {"completed": admitted}
    assert fulfilment.by("darkroom_completion_seconds_count", "state") == {"completed": admitted}
    assert fulfilment.value("darkroom_provider_calls_total", call="create", outcome="created") == admitted
    assert fulfilment.value("darkroom_provider_call_seconds_count", call="create") == admitted
    assert fulfilment.value("darkroom_provider_started_last_hour") == admitted
    assert fulfilment.value("darkroom_provider_starts_per_hour_max") == 500
    assert fulfilment.value("darkroom_spend_breaker_open") == 0
    assert fulfilment.by("darkroom_dead_letters_total", "topic") == {PREDICTIONS: 2}
    assert fulfilment.value("darkroom_unfinished_requests", state="running") is not None
    assert fulfilment.by("darkroom_events_published_total", "topic")[COMPLETED] == admitted

    assert projections.by("darkroom_dead_letters_total", "topic") == {CREDITS: 3}
    assert projections.value("darkroom_credit_cache_stale_ratio") == 0

    assert (gateway.value("darkroom_webhooks_total", outcome="taken") or 0) >= admitted
    hooks = {"method": "POST", "route": "/v1/webhooks/replicate"}
    assert (gateway.value("darkroom_http_requests_total", status="204", **hooks) or 0) >= admitted
    assert (gateway.value("darkroom_http_request_seconds_count", **hooks) or 0) >= admitted
    assert sum(value for (name, labels), value in emulator.values.items() if name == "darkroom_http_requests_total"
               and dict(labels)["method"] == "POST" and dict(labels)["status"] == "201") == admitted  # fmt: skip

    for role, scrape_ in found.items():
        pool = f"darkroom-{role}"
        most = scrape_.value("darkroom_postgres_pool_connections_max", pool=pool) or 0
        assert 1 <= scrape_.by("darkroom_postgres_pool_connections", "pool")[pool] <= most
        assert (scrape_.value("darkroom_postgres_pool_acquire_seconds_count", pool=pool) or 0) > 0
        assert scrape_.value("darkroom_postgres_pool_waiting", pool=pool) == 0
        assert scrape_.value("darkroom_lanes_open") == world.settings.partitions * len(TOPICS[role])
        assert (scrape_.value("process_start_time_seconds") or 0) > 0
    assert "darkroom_spend_breaker_open" not in admission.names() | projections.names() | gateway.names()
    assert "darkroom_credit_cache_up" not in admission.names() | fulfilment.names()


async def test_lag_and_age_grow_while_a_step_cannot_go_on_and_end_with_it(world: World) -> None:
    await world.open_accounts(["ada"], 50)
    admission = await world.start("admission").ready()
    await ask(world, *requests("ada", 3))
    labels = {"role": "admission", "topic": REQUESTED}
    async with world.database() as blocking, blocking.transaction():
        await blocking.execute("LOCK TABLE stream_progress IN ACCESS EXCLUSIVE MODE")
        await world.produce(REQUESTED, requests("ada", 7, 10))

        async def behind() -> bool:
            found = await scraped(admission)
            assert found.value("darkroom_lag_records", **labels) == 7
            assert (found.value("darkroom_oldest_record_age_seconds", **labels) or 0) > 1
            return found.value("darkroom_postgres_pool_connections", pool="darkroom-admission", state="used") == 1

        await eventually(behind, SETTLED_S)
    found = await caught_up("admission", admission)
    assert found.by("darkroom_requests_total", "outcome") == {"admitted": 10}
    assert found.value("darkroom_decision_seconds_count") == 10
    assert (found.value("darkroom_decision_seconds_sum") or 0) > 7


async def test_what_a_killed_worker_had_committed_is_published_again_and_not_decided_again(world: World) -> None:
    await world.open_accounts(["ada"], 50)
    doomed = world.start("admission", DARKROOM_CRASH_AT="admit:3")
    await doomed.ready()
    await world.produce(REQUESTED, requests("ada", 4))
    await doomed.ended()
    heir = await world.start("admission").ready()

    async def caught() -> Scrape | None:
        found = await caught_up("admission", heir)
        replayed = found.value("darkroom_step_replayed_records_total", stream="admit") or 0
        decided = sum(found.by("darkroom_requests_total", "outcome").values())
        assert replayed >= 1
        assert replayed + decided == 4
        return found

    await eventually(caught, SETTLED_S)
