"""The whole demo: from nothing to finished pictures and clean books, and nothing left afterwards."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.processes import ROOT, environment, processes_of, started, wait_for_silence
from tests.support.waiting import wait_until

SUMMARY = {
    "requested", "admitted", "rejected", "completed", "failed", "images", "seconds", "p50_ms", "p99_ms", "violations",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all of these tests: whichever comes first makes it, the others start on old data."""
    return tmp_path_factory.mktemp("demo")


def run_demo(home: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", *arguments],
        env=environment(home, **extra), cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_a_demo_completes_every_request_with_clean_books_and_leaves_no_process(home: Path) -> None:
    done = run_demo(home, "--requests", "12", "--exit")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary) == SUMMARY
    wanted = {"requested": 12, "admitted": 12, "completed": 12, "rejected": 0, "failed": 0, "violations": 0}
    assert {name: summary[name] for name in wanted} == wanted
    assert summary["images"] == 15
    assert re.search(
        r"curl -H 'Authorization: Bearer dr_[0-9a-f]{16}_\S{43}' 'http://[^?]+/v1/\w+\?user=ada'", done.stderr
    )
    assert not [path for path in (home / "logs").iterdir() if "dr_" in path.read_text(errors="replace")]
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
    with Image.open(home / "contact-sheet.png") as sheet:
        assert sheet.format == "PNG"
    wait_for_silence(home)


def test_pictures_that_fail_are_counted_and_end_with_1(home: Path) -> None:
    done = run_demo(home, "--requests", "8", "--exit", DARKROOM_EMULATOR_FAULTS="failed=1.0")
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["requested"], summary["completed"], summary["failed"]) == (8, 0, 8)
    assert summary["violations"] == 0
    assert "provider_failed" in done.stderr


def test_an_interrupted_demo_ends_in_order_within_ten_seconds(home: Path, tmp_path: Path) -> None:
    with started("demo", "--rate", "4", folder=tmp_path, env=environment(home)) as demo:
        demo.wait_for(" ms\n")
        second = run_demo(home)
        assert second.returncode == 1
        assert "another demo runs" in second.stderr
        assert demo.end(signal.SIGINT, timeout_s=10) == 0, demo.stderr()
    assert str(home / "contact-sheet.png") in demo.stdout()
    wait_for_silence(home, timeout_s=2)
    log = (home / "logs" / "worker-fulfilment.log").read_text()
    assert "Traceback" not in log


def test_a_killed_demo_leaves_no_process(home: Path, tmp_path: Path) -> None:
    with started("demo", "--exit", "--requests", "100000", folder=tmp_path, env=environment(home)) as demo:
        wait_until(lambda: "making 100000 requests" in demo.stderr(), 90, "the demo did not start")
        assert len(processes_of(home)) > 5
        demo.end(signal.SIGKILL, timeout_s=5)
    wait_for_silence(home, timeout_s=20)
