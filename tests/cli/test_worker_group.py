"""`darkroom worker all`: three processes, one life."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.children import environment_of
from streams.settings import Settings
from tests.cli.processes import Command, processes_of, started, wait_for_silence

pytestmark = pytest.mark.usefixtures("applied_topics")
ROLES = ("admission", "fulfilment", "projections")


@pytest.fixture
def group(settings: Settings, tmp_path: Path) -> Iterator[Command]:
    with started("worker", "all", folder=tmp_path, env=environment_of(settings)) as command:
        command.wait_for("\nready\n")
        yield command


def pid_of(home: Path, role: str) -> int:
    return next(pid for pid, line in processes_of(home).items() if line.endswith(f"worker {role}"))


def test_the_group_is_ready_with_all_roles_and_stops_on_term(group: Command, settings: Settings) -> None:
    assert all(pid_of(settings.home, role) for role in ROLES)
    for role in ROLES:
        assert "\nready\n" in (settings.home / "logs" / f"worker-{role}.log").read_text()
    assert group.end(signal.SIGTERM, timeout_s=10) == 0
    wait_for_silence(settings.home, timeout_s=2)


def test_a_worker_that_dies_stops_the_group_with_one_line(group: Command, settings: Settings) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    role = random.Random(seed).choice(ROLES)
    os.kill(pid_of(settings.home, role), signal.SIGKILL)
    assert group.process.wait(12) == 1
    lines = group.stderr().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"darkroom: worker-{role} ended (exit -9)")
    wait_for_silence(settings.home, timeout_s=2)
