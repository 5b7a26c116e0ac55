"""What does not need Kafka: Valkey alone starts in no time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.processes import Command
from devstack.service import Place
from devstack.stack import SERVICES, running_settings, start_stack
from models.errors import SetupFailed
from streams.settings import load_settings
from tests.devstack.commands import (
    NO_KAFKA,
    NO_REDIS,
    ONLY_VALKEY,
    ROOT,
    darkroom,
    environment,
    processes_of,
    read_line,
    running,
    wait_for_silence,
)
from tests.support.waiting import wait_until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    darkroom(folder, "stack", "down")
    assert processes_of(folder) == []


def _only_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_a_taken_port_is_one_line_that_names_the_setting(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = darkroom(home, "stack", "up", **ONLY_VALKEY, DARKROOM_REDIS_PORT=str(port))
    assert refused.returncode == 1
    line = _only_line(refused.stderr)
    assert f"port {port}" in line
    assert "DARKROOM_REDIS_PORT" in line
    assert processes_of(home) == []


def test_a_wanted_port_is_used(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert darkroom(home, "stack", "up", **ONLY_VALKEY, DARKROOM_REDIS_PORT=str(port)).returncode == 0
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(7) == b"+PONG\r\n"


def test_servers_listen_on_loopback_only(home: Path) -> None:
    assert darkroom(home, "stack", "up", **ONLY_VALKEY).returncode == 0
    port = json.loads((home / "stack.json").read_text())["redis"]["port"]
    with pytest.raises(OSError, match=r"refused|unreachable|assign"):
        # Any other address of the loopback network stands for the addresses of the machine.
        socket.create_connection(("127.0.0.2", port), 1)


def test_outside_servers_replace_the_embedded_ones(home: Path) -> None:
    outside = ONLY_VALKEY | NO_REDIS
    assert darkroom(home, "stack", "up", **outside).returncode == 0
    assert processes_of(home) == []
    status = darkroom(home, "stack", "status", "--json", **outside)
    assert status.returncode == 0
    assert {service["state"] for service in json.loads(status.stdout)} == {"external"}
    exported = json.loads(darkroom(home, "stack", "env", "--json", **outside).stdout)
    assert exported["DARKROOM_KAFKA"] == outside["DARKROOM_KAFKA"]


def test_two_starts_at_the_same_time_make_one_stack(home: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "stack", "up"]
    starts = [
        subprocess.Popen(command, env=environment(home, ONLY_VALKEY), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [start.communicate(timeout=30)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0, 0]
    assert sum("Valkey: ready" in output for output in outputs) == 1
    assert len(processes_of(home)) == 1


def test_when_one_server_does_not_start_the_others_are_stopped_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(place: Place) -> Command:
        wait_until(lambda: processes_of(home), 10, "Valkey did not start")
        raise SetupFailed("Postgres has a bad day")

    (postgres,) = (service for service in SERVICES if service.field == "postgres")
    monkeypatch.setattr(postgres, "prepare", broken)
    settings = load_settings(home=home, kafka=NO_KAFKA["DARKROOM_KAFKA"])
    with pytest.raises(SetupFailed, match="a bad day"):
        start_stack(settings, attached=True, progress=lambda line: None)
    assert processes_of(home) == []
    assert running_settings(settings).redis is None


def test_an_entry_that_names_somebody_elses_process_counts_for_nothing(home: Path) -> None:
    assert darkroom(home, "stack", "up", **ONLY_VALKEY).returncode == 0
    roster = json.loads((home / "stack.json").read_text())
    assert darkroom(home, "stack", "down").returncode == 0
    roster["redis"]["pid"] = os.getpid()
    (home / "stack.json").write_text(json.dumps(roster))

    status = darkroom(home, "stack", "status", **ONLY_VALKEY)
    assert status.returncode == 1
    assert "Valkey" in _only_line(status.stderr)
    assert darkroom(home, "stack", "down").stdout == "nothing was running\n"
    assert darkroom(home, "stack", "up", **ONLY_VALKEY).returncode == 0


def test_an_unreadable_roster_counts_for_nothing(home: Path) -> None:
    home.mkdir()
    (home / "stack.json").write_text('{"redis": {"pid": 1')
    assert darkroom(home, "stack", "up", **ONLY_VALKEY).returncode == 0
    assert len(processes_of(home)) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_an_attached_run_ends_with_its_servers_when_asked_to(home: Path, how: signal.Signals) -> None:
    with running(home, "stack", "up", "--attached", **ONLY_VALKEY) as owner:
        read_line(owner, "ready")
        assert darkroom(home, "stack", "status", **ONLY_VALKEY).returncode == 0
        owner.send_signal(how)
        assert owner.wait(10) == 0
        wait_for_silence(home)
    assert darkroom(home, "stack", "status", **ONLY_VALKEY).returncode == 1


def test_an_attached_run_leaves_servers_that_ran_before(home: Path) -> None:
    assert darkroom(home, "stack", "up", **ONLY_VALKEY).returncode == 0
    with running(home, "stack", "up", "--attached", **ONLY_VALKEY) as user:
        read_line(user, "ready")
        user.send_signal(signal.SIGTERM)
        assert user.wait(10) == 0
    assert darkroom(home, "stack", "status", **ONLY_VALKEY).returncode == 0


def test_env_without_a_stack_is_one_line_that_says_how_to_start_it(home: Path) -> None:
    refused = darkroom(home, "stack", "env")
    assert refused.returncode == 1
    assert "darkroom stack up" in _only_line(refused.stderr)
    assert refused.stdout == ""


def test_a_folder_that_cannot_be_written_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = darkroom(tmp_path / "file" / "home", "stack", "up")
    assert refused.returncode == 1
    assert "DARKROOM_HOME" in _only_line(refused.stderr)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("DARKROOM_KAFKA", "no-port"),
        ("DARKROOM_POSTGRES", "mysql://x"),
        ("DARKROOM_PARTITIONS", "many"),
        ("DARKROOM_REDIS_PORT", "70000"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it_and_exit_2(tmp_path: Path, setting: str, value: str) -> None:
    refused = darkroom(tmp_path, "stack", "up", **{setting: value})
    assert refused.returncode == 2
    assert setting in _only_line(refused.stderr)


@pytest.mark.parametrize("arguments", [["nonsense"], ["stack", "sideways"], ["stack", "up", "--loudly"]])
def test_wrong_use_is_one_line_and_exit_2(tmp_path: Path, arguments: list[str]) -> None:
    refused = darkroom(tmp_path, *arguments)
    assert refused.returncode == 2
    assert "--help" in _only_line(refused.stderr)


def test_settings_are_all_shown_with_secrets_masked(tmp_path: Path) -> None:
    secrets = {
        "DARKROOM_POSTGRES": "postgresql://me:hidden1@127.0.0.1:1/x?password=hidden3&sslmode=require",
        "REPLICATE_API_TOKEN": "hidden2",
        "DARKROOM_PUBLIC_URL": "https://me:hidden4@pictures.example",
        "DARKROOM_BLOBS": "s3://me:hidden5@bucket",
        "DARKROOM_REDIS": "redis://:hidden6@127.0.0.1:1/0",
    }
    shown = darkroom(tmp_path, "settings", "--json", **secrets)
    assert shown.returncode == 0
    assert "hidden" not in shown.stdout
    values = json.loads(shown.stdout)
    assert values["DARKROOM_POSTGRES"] == "postgresql://me:***@127.0.0.1:1/x?password=***&sslmode=require"
    assert values["REPLICATE_API_TOKEN"] == "***"
    assert values["DARKROOM_HOME"] == str(tmp_path)
    assert {line.split()[0] for line in darkroom(tmp_path, "settings").stdout.splitlines()} == set(values)


def test_an_empty_setting_is_an_unset_one(tmp_path: Path) -> None:
    shown = darkroom(tmp_path, "settings", "--json", DARKROOM_KAFKA="", DARKROOM_POSTGRES="", DARKROOM_PARTITIONS="")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["DARKROOM_PARTITIONS"] == "8"


def test_a_reader_that_leaves_early_causes_no_complaint(tmp_path: Path) -> None:
    script = f"{sys.executable} -m cli.main settings | true"
    done = subprocess.run(
        ["sh", "-c", script], env=environment(tmp_path, {}), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
