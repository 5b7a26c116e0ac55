"""Long-running `darkroom` commands under test, and what they leave on the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The outer environment without settings, but with this home."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "REPLICATE_"))}
    cache = {name: os.environ[name] for name in ("DARKROOM_CACHE",) if name in os.environ}
    return outer | cache | {"DARKROOM_HOME": str(home)} | extra


class Command:
    """A started command whose output goes to files."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, env: dict[str, str]) -> None:
        self.out, self.err = folder / "command.out", folder / "command.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", *arguments], env=env, cwd=ROOT, stdout=out, stderr=err
            )

    def stdout(self) -> str:
        return self.out.read_text()

    def stderr(self) -> str:
        return self.err.read_text()

    def wait_for(self, text: str, timeout_s: float = 90) -> None:
        """Return once it has written the text to its standard output."""

        def has_said() -> bool:
            assert self.process.poll() is None, f"ended: {self.stderr()}"
            return text in self.stdout()

        wait_until(has_said, timeout_s, f"{text!r} was not said: {self.stderr()}")

    def end(self, how: signal.Signals, timeout_s: float) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout_s)


@contextmanager
def started(*arguments: str, folder: Path, env: dict[str, str]) -> Iterator[Command]:
    """A command that is killed at the end if it still runs."""
    command = Command(arguments, folder, env)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait()


def processes_of(home: Path) -> dict[int, str]:
    """Live processes that were started with this DARKROOM_HOME: pid and command line."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("DARKROOM_HOME") == str(home):
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found


def wait_for_silence(home: Path, timeout_s: float = 15) -> None:
    """Return once nothing runs any more."""
    wait_until(lambda: not processes_of(home), timeout_s, f"processes are left: {processes_of(home)}")
