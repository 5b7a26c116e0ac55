"""The `darkroom` command as a person runs it, and what it leaves on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
# A setting that names a real server keeps the embedded one from starting; nobody connects to these.
NO_KAFKA = {"DARKROOM_KAFKA": "127.0.0.1:1"}
NO_POSTGRES = {"DARKROOM_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}
NO_REDIS = {"DARKROOM_REDIS": "redis://127.0.0.1:1"}
ONLY_VALKEY = NO_KAFKA | NO_POSTGRES


def environment(home: Path, extra: dict[str, str]) -> dict[str, str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "REPLICATE_"))}
    cache = {name: os.environ[name] for name in ("DARKROOM_CACHE",) if name in os.environ}
    return outer | cache | {"DARKROOM_HOME": str(home), "COLUMNS": "200"} | extra


def darkroom(home: Path, *arguments: str, timeout_s: float = 60, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=environment(home, extra), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip


@contextmanager
def running(home: Path, *arguments: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on; killed at the end if it still does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        env=environment(home, extra), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def processes_of(home: Path) -> list[str]:
    """Command lines of live processes that work in the folder, guards of such included."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            is_guard = "guard.py" in line and process.environ().get("DARKROOM_HOME") == str(home)
            if process.status() != psutil.STATUS_ZOMBIE and (str(home) in line or is_guard):
                found.append(line)
        except psutil.Error:
            continue
    return found


def wait_for_silence(home: Path) -> None:
    wait_until(lambda: not processes_of(home), 15, f"processes of {home} are left: {processes_of(home)}")


def read_line(process: subprocess.Popen[str], wanted: str) -> None:
    """Read output until the line comes."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return
    raise AssertionError(f"{wanted!r} never came: {process.stderr.read() if process.stderr else ''}")
