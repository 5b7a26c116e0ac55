"""What Faust loses when it is used in the ordinary way, each with the protection that must stay.

Traps that need a kill, a rebalance or TERM in the middle are in the other files of this folder: an event lost when
an agent raises (test_poison), TERM losing the event in flight and rebalances taking the worker down
(test_takeover), tables corrupted by kill -9 (test_crash_points: windows are rebuilt from rows).
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP
from mode import CrashingSupervisor

import agents
import streams
from adapters.postgres import close_pool, open_pool
from agents.admit import AdmitStep
from models.outputs import Output
from models.topics import ADMITTED, REJECTED, REQUESTED, TOPICS
from streams.app import RoleApp, role_app
from streams.delivery import Delivery
from streams.lane import LaneConsumer, LaneScheduler, LaneToken
from streams.lanes import Lanes
from streams.settings import Settings, load_settings
from streams.topics import apply_topics
from tests.faults.harness import World, admission_violations, environment_of, event_ids, request
from tests.support.waiting import eventually
from tests.unit.records import FakeRecord, request_value

TOPIC = TP("requests", 0)


@pytest.fixture
def app(tmp_path: Path) -> RoleApp:
    """An app that is configured and not started."""
    made = role_app("admission", load_settings(kafka="127.0.0.1:1", home=tmp_path))
    made.lane_agent("admit", "requests", SimpleNamespace())  # type: ignore[arg-type]
    made.finalize()
    return made


CONFIGURED: dict[str, Callable[[Any], object]] = {
    "an agent that raises is not restarted past its event": lambda app: app.conf.agent_supervisor is CrashingSupervisor,
    "TERM does not hang on an unacked event": lambda app: app.conf.stream_wait_empty is False,
    "partitions are not isolated, or a rebalance cancels them": lambda app: not app.agents["admit"].isolated_partitions,
    "a killed worker's partitions do not stand still": lambda app: app.conf.broker_session_timeout <= 10,
    "three heartbeats fit a session": lambda app: (
        app.conf.broker_heartbeat_interval * 3 <= app.conf.broker_session_timeout
    ),
    "exactly_once, which hides errors, is off": lambda app: app.conf.processing_guarantee.value == "at_least_once",
    "there are no tables to be corrupted": lambda app: not app.tables.data and app.conf.store.scheme == "memory",
    "a worker makes no topics": lambda app: app.conf.topic_allow_declare is False,
    "not even a leader's topic": lambda app: app.conf.topic_disable_leader is True,
    "no web server binds every interface": lambda app: app.conf.web_enabled is app.conf.web_tables_enabled is False,
    "no threaded producer breaks at shutdown": lambda app: app.conf.producer_threaded is False,
    "the partition count is one setting": lambda app: app.conf.topic_partitions == load_settings().partitions,
    "a lost request is not waited for 90 s": lambda app: app.conf.broker_request_timeout <= 30,
}


@pytest.mark.parametrize("protection", CONFIGURED)
def test_the_app_is_configured_so_that(app: RoleApp, protection: str) -> None:
    assert CONFIGURED[protection](app)


def test_batches_are_never_taken_by_fausts_take_and_records_never_named_by_module() -> None:
    for package in (streams, agents):
        for file in Path(package.__path__[0]).glob("*.py"):
            assert not re.search(r"\.(noack_)?take\(|faust\.Record|test_context\(", file.read_text()), file.name


def record(offset: int) -> Any:
    return SimpleNamespace(
        topic="requests", partition=0, offset=offset, timestamp=1, timestamp_type=1, key=None, value=b"x", headers=()
    )


def lanes_with_one(positioned: bool = True) -> Lanes:
    lanes = Lanes(records_max=10, bytes_max=10_000)
    lanes.add("requests", SimpleNamespace())  # type: ignore[arg-type]
    lanes.attach(SimpleNamespace(on_buffer_full=paused.append, on_buffer_drop=paused.remove))  # type: ignore[arg-type]
    paused.clear()
    lanes.position = lambda lanes: None  # type: ignore[method-assign]
    lanes.assign([TOPIC])
    lanes.here[TOPIC].positioned = positioned
    return lanes


paused: list[Any] = []


async def test_every_fetched_record_is_gathered_at_once_and_the_agent_sees_one_token() -> None:
    lanes = lanes_with_one()
    yielded = list(LaneScheduler(lanes).iterate({TOPIC: [record(n) for n in range(500)]}))
    assert [type(token) for _, token in yielded] == [LaneToken]
    assert lanes.here[TOPIC].size_bytes == 500 * (1 + 200)


async def test_nothing_is_gathered_unless_faust_takes_the_first_token() -> None:
    lanes = lanes_with_one()
    LaneScheduler(lanes).iterate({TOPIC: [record(0)]})
    assert lanes.here[TOPIC].size_bytes == 0


async def test_what_arrives_before_the_lanes_seek_is_dropped_because_it_comes_again() -> None:
    lanes = lanes_with_one(positioned=False)
    list(LaneScheduler(lanes).iterate({TOPIC: [record(0)]}))
    assert lanes.here[TOPIC].size_bytes == 0


async def test_a_full_lane_pauses_its_partition_and_resumes_when_half_is_taken() -> None:
    lanes = lanes_with_one()
    list(LaneScheduler(lanes).iterate({TOPIC: [record(n) for n in range(60)]}))
    assert paused == [TOPIC]
    lane = lanes.here[TOPIC]
    while paused:
        assert lane._take(10), "the lane ran empty and is still paused"
        lanes.on_taken(lane)
    assert lane.size_bytes < 5_000


async def test_a_full_lane_that_is_fenced_is_fetched_from_again() -> None:
    lanes = lanes_with_one()
    list(LaneScheduler(lanes).iterate({TOPIC: [record(n) for n in range(60)]}))
    assert paused == [TOPIC]
    lanes.here[TOPIC].clear()
    assert paused == []


def test_only_a_handled_batch_moves_the_offset_that_is_committed() -> None:
    consumer = object.__new__(LaneConsumer)
    lane = SimpleNamespace(done_offset=None)
    consumer.lanes = SimpleNamespace(handlers={"requests": None}, here={TOPIC: lane})  # type: ignore[assignment]
    assert consumer._new_offset(TOPIC) is None
    lane.done_offset = 41
    assert consumer._new_offset(TOPIC) == 41


async def test_folded_records_are_not_gaps_that_the_commit_may_jump() -> None:
    consumer = object.__new__(LaneConsumer)
    consumer.lanes = SimpleNamespace(handlers={"requests": None}, here={})  # type: ignore[assignment]
    await consumer._add_gap(TOPIC, 1, 500)
    assert not hasattr(consumer, "_gap")


async def test_the_memory_of_keys_and_headers_counts_too() -> None:
    lanes = lanes_with_one()
    large = record(0)
    large.key, large.headers = b"k" * 50, [("padding", b"h" * 20_000), ("empty", None)]
    list(LaneScheduler(lanes).iterate({TOPIC: [large]}))
    assert lanes.here[TOPIC].size_bytes == 200 + 1 + 50 + len("padding") + 20_000 + len("empty")
    assert paused == [TOPIC]


async def test_a_lane_that_came_while_its_partition_was_sought_is_not_positioned_by_that_seek() -> None:
    lanes = lanes_with_one(positioned=False)
    first = lanes.here[TOPIC]
    first.begin(SimpleNamespace(position=7, close=lambda: None))  # type: ignore[arg-type]
    lanes._seeks[TOPIC] = (first, 7)  # type: ignore[index]

    async def seek(offsets: Any) -> Any:
        lanes.assign([TOPIC])
        return set(offsets)

    await lanes.make_seeks(seek)
    assert lanes.here[TOPIC] is not first
    assert not lanes.here[TOPIC].positioned


async def test_polls_are_short_so_that_a_seek_never_waits_for_fausts_long_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    polled: list[float] = []

    async def getmany(consumer: object, partitions: object, timeout_s: float) -> dict[str, object]:
        polled.append(timeout_s)
        return {}

    monkeypatch.setattr(Consumer, "_getmany", getmany)
    consumer = object.__new__(LaneConsumer)
    consumer.lanes = Lanes(records_max=1, bytes_max=1)
    await consumer._getmany(None, 1.5)
    await consumer._getmany(None, 0.1)
    assert polled == [0.25, 0.1]


def test_faust_does_not_look_for_events_in_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(Consumer, "verify_event_path", lambda consumer, now, tp: looked.append(tp))
    consumer = object.__new__(LaneConsumer)
    consumer.lanes = SimpleNamespace(handlers={"requests": None})  # type: ignore[assignment]
    consumer.verify_event_path(1.0, TOPIC)
    consumer.verify_event_path(1.0, TP("others", 0))
    assert looked == [TP("others", 0)]


async def test_a_batch_is_acked_only_when_the_broker_has_its_outputs(settings: Settings) -> None:
    acked = asyncio.Event()

    class Slow:
        async def publish(self, partition: int, outputs: list[Output]) -> None:
            await acked.wait()

    pool = await open_pool(settings.require("postgres"), size_max=2, application="test")
    try:
        session = await Delivery(AdmitStep(1), pool, Slow()).open(0, 1)  # type: ignore[arg-type]
        handling = asyncio.create_task(session.handle([FakeRecord(request_value())]))
        await eventually(lambda: pool.fetchval("SELECT next_offset FROM stream_progress WHERE next_offset = 1"))
        assert not handling.done()
        acked.set()
        assert await handling == 1
    finally:
        await close_pool(pool)


def test_topics_take_the_brokers_time() -> None:
    assert {topic.configuration()["message.timestamp.type"] for topic in TOPICS.values()} == {"LogAppendTime"}


async def test_a_producers_clock_cannot_open_a_window(world: World) -> None:
    await world.open_accounts(["u"], 100)
    await world.start().ready()
    await world.produce(REQUESTED, [request("r0", "u")])
    producer = world._producer
    assert producer is not None
    for number in range(1, 40):
        key, value = request(f"r{number}", "u")
        topic = world.settings.topic_prefix + REQUESTED
        await producer.send_and_wait(topic, value, key=key.encode(), timestamp_ms=number * 3_600_000)
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert len(event_ids(await world.read(ADMITTED))) == 30
    assert len(event_ids(await world.read(REJECTED))) == 10


async def test_a_worker_without_its_topics_says_what_to_do_and_makes_none(settings: Settings, tmp_path: Path) -> None:
    world = World(settings, tmp_path)
    worker = world.start()
    assert await worker.ended() == 1
    assert "darkroom topics apply" in worker.output().strip().splitlines()[-1]
    assert len(await apply_topics(settings)) == len(TOPICS)


async def test_a_worker_with_another_partition_count_refuses_to_start(world: World) -> None:
    worker = world.start(DARKROOM_PARTITIONS="8")
    assert await worker.ended() == 1
    assert "has 4 partitions, DARKROOM_PARTITIONS is 8" in worker.output()


async def test_a_stuck_step_stops_the_worker(world: World) -> None:
    await world.open_accounts(["u"], 100)
    worker = await world.start(DARKROOM_STEP_TIMEOUT_S="2").ready()
    async with world.database() as held, held.transaction():
        await held.execute("SELECT 1 FROM stream_progress FOR UPDATE")
        await world.produce(REQUESTED, [request("r", "u")])
        assert await worker.ended(timeout_s=15) == 70
    await world.start().ready()
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert await admission_violations(world, opening_balance=100) == []


async def test_term_commits_what_it_has_handled_so_that_lag_is_told_truly(world: World) -> None:
    await world.open_accounts(["u"], 10_000)
    worker = world.start(DARKROOM_STEP_RECORDS_MAX="20")
    await worker.ready()
    # More than a commit interval's worth, so that only what is committed while stopping can be up to date.
    await world.produce(REQUESTED, [request(f"r{number}", "u") for number in range(3000)])
    await eventually(lambda: world.handled("admit"), 20, "nothing was handled")
    assert await worker.terminate() == 0
    rows = await world.fetch("SELECT partition, next_offset FROM stream_progress WHERE stream = 'admit'")
    handled = {row["partition"]: row["next_offset"] for row in rows if row["next_offset"]}
    assert sum(handled.values()) < 3000
    assert await world.committed("admission", REQUESTED) == handled


async def test_term_does_not_wait_for_a_step_that_cannot_end_and_commits_nothing_of_it(world: World) -> None:
    await world.open_accounts(["u"], 100)
    worker = await world.start().ready()
    async with world.database() as held, held.transaction():
        await held.execute("SELECT 1 FROM stream_progress FOR UPDATE")
        await world.produce(REQUESTED, [request("r", "u")])
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await eventually(lambda: held.fetchval(waiting), 10, "the step does not wait")
        began = time.monotonic()
        await worker.terminate(timeout_s=12)
        assert time.monotonic() - began < 10
        assert await world.committed("admission", REQUESTED) == {}
    await world.start().ready()
    await world.until_acked("admission", REQUESTED)
    assert await world.workers[-1].terminate() == 0
    assert await admission_violations(world, opening_balance=100) == []


def test_the_command_works_from_any_folder(tmp_path: Path, settings: Settings) -> None:
    command = [str(Path(sys.executable).with_name("darkroom")), "worker", "--help"]
    finished = subprocess.run(command, cwd=tmp_path, env=environment_of(settings), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "admission" in finished.stdout
