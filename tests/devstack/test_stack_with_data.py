"""The whole stack on one folder. The folder is made once; each test begins with nothing running on it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from devstack.stack import running_settings, start_stack, stop_stack
from streams.settings import Settings, load_settings
from tests.devstack.commands import darkroom, processes_of, read_line, running, wait_for_silence
from tests.support.waiting import wait_until

TOPIC = "kept"


def _quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def used_home() -> Iterator[Path]:
    """A folder on which a stack has run before: a record and a row are in it."""
    home = Path(tempfile.mkdtemp(prefix="darkroom-stack-"))
    try:
        asyncio.run(_write(start_stack(load_settings(home=home), attached=True, progress=_quiet)))
        stop_stack(load_settings(home=home))
        yield home
    finally:
        stop_stack(load_settings(home=home))
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def home(used_home: Path) -> Iterator[Path]:
    stop_stack(load_settings(home=used_home))
    assert processes_of(used_home) == []
    yield used_home
    stop_stack(load_settings(home=used_home))


def test_data_and_ports_are_the_same_after_a_restart(home: Path) -> None:
    ports = json.loads((home / "ports.json").read_text())
    began = time.monotonic()
    assert darkroom(home, "stack", "up").returncode == 0
    took_s = time.monotonic() - began
    settings = running_settings(load_settings(home=home))
    assert asyncio.run(_read(settings)) == (b"record", "row")
    assert json.loads((home / "ports.json").read_text()) == ports
    assert took_s < 15

    assert darkroom(home, "stack", "down").stdout == "stopped Kafka, Postgres, Valkey\n"
    assert processes_of(home) == []
    assert running_settings(load_settings(home=home)).kafka is None


def test_servers_that_were_killed_are_noticed_and_come_back_with_their_data(home: Path) -> None:
    assert darkroom(home, "stack", "up").returncode == 0
    for service in json.loads(darkroom(home, "stack", "status", "--json").stdout):
        os.kill(service["pid"], signal.SIGKILL)
    wait_for_silence(home)

    status = darkroom(home, "stack", "status", "--json")
    assert status.returncode == 1
    assert [service["state"] for service in json.loads(status.stdout)] == ["stopped"] * 3

    assert darkroom(home, "stack", "up").returncode == 0
    assert asyncio.run(_read(running_settings(load_settings(home=home)))) == (b"record", "row")


def test_up_while_running_changes_nothing(home: Path) -> None:
    assert darkroom(home, "stack", "up").returncode == 0
    before = (home / "stack.json").read_text()
    began = time.monotonic()
    again = darkroom(home, "stack", "up")
    assert again.returncode == 0
    assert time.monotonic() - began < 3
    assert (home / "stack.json").read_text() == before
    assert "ready on port" not in again.stderr

    shell = 'eval "$(cat)"; echo $DARKROOM_HOME $DARKROOM_KAFKA $DARKROOM_POSTGRES $DARKROOM_REDIS'
    exports = darkroom(home, "stack", "env").stdout
    evaluated = subprocess.run(["sh", "-c", shell], input=exports, capture_output=True, text=True, check=True)
    settings = running_settings(load_settings(home=home))
    assert evaluated.stdout.split() == [str(home), settings.kafka, settings.postgres, settings.redis]


def test_nothing_survives_a_killed_attached_run_and_the_next_start_works_at_once(home: Path) -> None:
    with running(home, "stack", "up", "--attached") as owner:
        read_line(owner, "ready")
        assert len([line for line in processes_of(home) if "guard.py" not in line]) >= 3
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        # The old servers may still be stopping: the new start must be done with them, not take them for its own.
        assert darkroom(home, "stack", "up").returncode == 0
    assert asyncio.run(_read(running_settings(load_settings(home=home)))) == (b"record", "row")
    assert darkroom(home, "stack", "down").returncode == 0
    wait_for_silence(home)


@pytest.mark.parametrize(
    ("how", "exit_code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)], ids=["killed", "interrupted"]
)
def test_a_start_that_is_cut_short_leaves_nothing(home: Path, how: signal.Signals, exit_code: int) -> None:
    with running(home, "stack", "up") as starting:
        wait_until(lambda: any("kafka.Kafka" in line for line in processes_of(home)), 15, "Kafka did not start")
        starting.send_signal(how)
        assert starting.wait(10) == exit_code
        wait_for_silence(home)
    assert running_settings(load_settings(home=home)).kafka is None


async def _write(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require("kafka"))
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=settings.require("kafka"), acks="all")
    await producer.start()
    await producer.send_and_wait(TOPIC, b"record")
    await producer.stop()
    connection = await asyncpg.connect(settings.require("postgres"))
    await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('row')")
    await connection.close()


async def _read(settings: Settings) -> tuple[bytes, str]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.require("kafka"), auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, 0)])
    record = await asyncio.wait_for(consumer.getone(), 15)
    await consumer.stop()
    connection = await asyncpg.connect(settings.require("postgres"))
    word = await connection.fetchval("SELECT word FROM kept")
    await connection.close()
    return record.value, word
