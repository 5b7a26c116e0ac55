"""`darkroom emulator` as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from cli.main import run
from tests.emulator.helpers import WEB

PROGRAM = "from cli.main import main; main()"


@contextmanager
def command(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "emulator", "--listen", "127.0.0.1:0", *options],
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


def test_it_says_when_it_is_ready_and_term_stops_it_within_two_seconds_in_the_middle_of_work() -> None:
    with command("--latency-min-s", "60", "--latency-max-s", "60", "--fault", "slow_answer=1") as (process, url):
        body = {"version": "abc", "input": {"prompt": "hills"}, "webhook": "http://127.0.0.1:9/x"}
        with pytest.raises(httpx.ReadTimeout):
            WEB.post(f"{url}/v1/predictions", json=body, timeout=0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - began < 2.0


def test_faults_and_secrets_come_from_the_environment() -> None:
    environment = {
        "DARKROOM_EMULATOR_FAULTS": "failed=0.5 lost_answer=0.25",
        "REPLICATE_API_TOKEN": "r8_token",
        "REPLICATE_WEBHOOK_SECRET": "whsec_" + "c2VjcmV0" * 4,
    }
    with command(**environment) as (_, url):
        assert WEB.get(f"{url}/emulator/faults").json()["rates"] == {"failed": 0.5, "lost_answer": 0.25}
        secret_url = f"{url}/v1/webhooks/default/secret"
        assert WEB.get(secret_url).status_code == 401
        answer = WEB.get(secret_url, headers={"Authorization": "Bearer r8_token"})
        assert answer.json() == {"key": environment["REPLICATE_WEBHOOK_SECRET"]}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--fault", "nope=0.1"], "nope"),
        (["--fault", "failed"], "failed"),
        (["--latency-min-s", "9", "--latency-max-s", "1"], "latency"),
    ],
)
def test_a_bad_option_is_one_line_that_names_it(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["emulator", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert named in lines[0]


def test_a_taken_port_is_one_line_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run(["emulator", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "DARKROOM_EMULATOR" in lines[0]
