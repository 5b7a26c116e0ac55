"""Starting and stopping the processes that are compared, and counting what they use of the processor."""

from __future__ import annotations

import asyncio
import bisect
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.arena import Round
from models.errors import DarkroomError
from streams.settings import Settings, variable_of

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
SAMPLE_EVERY_S = 0.05
_SHARED = ("kafka", "postgres", "redis", "topic_prefix", "partitions", "home")


class ContestantFailed(DarkroomError):
    """A process under measurement ended or did not become ready."""

    code = "contestant_failed"


class Contestant:
    """One process; its output goes to a file that is shown when it fails."""

    def __init__(self, name: str, command: list[str], variables: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("DARKROOM_", "REPLICATE_", "PEER_"))
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=inherited | variables, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self.pid = self._process.pid

    async def ready(self) -> None:
        """Wait until it says so. Raises ContestantFailed."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while b"\nready\n" not in b"\n" + self.log.read_bytes():
            self.check()
            if time.monotonic() > deadline:
                raise ContestantFailed(f"{self.name} was not ready within {READY_TIMEOUT_S:g} s: {self._last_line()}")
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raises ContestantFailed: it has ended."""
        code = self._process.poll()
        if code is not None:
            raise ContestantFailed(f"{self.name} ended with {code}: {self._last_line()}")

    def used_s(self) -> float:
        """Processor seconds so far. Raises ContestantFailed: it has ended."""
        self.check()
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    async def stop(self) -> None:
        """TERM, and KILL when that is not enough."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait, STOP_TIMEOUT_S)

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def start_ours(round_: Round, log: Path) -> Contestant:
    """`darkroom worker admission`."""
    return Contestant(
        "ours", [sys.executable, "-m", "cli.main", "worker", "admission"], _variables(round_.settings), log
    )


def start_worker(role: str, settings: Settings, log: Path) -> Contestant:
    """`darkroom worker` in some role."""
    return Contestant(role, [sys.executable, "-m", "cli.main", "worker", role], _variables(settings), log)


def start_load(arguments: list[str], log: Path) -> Contestant:
    """The writes that the credit cache follows."""
    return Contestant("writer", [sys.executable, "-m", "bench.grants_load", *arguments], {}, log)


def start_handwritten(round_: Round, log: Path, *, headers: bool) -> Contestant:
    """The hand-written loop."""
    topics = round_.topics
    variables = {
        "PEER_KAFKA": round_.settings.require("kafka"),
        "PEER_POSTGRES": round_.settings.require("postgres"),
        "PEER_INPUT": topics.requested,
        "PEER_ADMITTED": topics.admitted,
        "PEER_REJECTED": topics.rejected,
        "PEER_CREDITS": topics.credits,
        "PEER_GROUP": round_.settings.topic_prefix + "handwritten",
        "PEER_HEADERS": "1" if headers else "0",
    }
    return Contestant("handwritten", [sys.executable, "-m", "bench.peers.handwritten"], variables, log)


def _variables(settings: Settings) -> dict[str, str]:
    return {variable_of(name): str(getattr(settings, name)) for name in _SHARED}


@dataclass
class Usage:
    """Processor seconds of named groups of processes over time."""

    pids: dict[str, int]
    times: list[float] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    _known: dict[str, dict[int, float]] = field(default_factory=dict)

    async def sample(self) -> None:
        """Go on sampling until cancelled. Children count with their parents, also after they have ended."""
        while True:
            self.times.append(time.time())
            for name, pid in self.pids.items():
                self.seconds.setdefault(name, []).append(self._used(name, pid))
            await asyncio.sleep(SAMPLE_EVERY_S)

    def between(self, first_ms: int, last_ms: int) -> dict[str, float]:
        """Processor seconds by name between two moments of wall clock."""
        if not self.times:
            return {}
        first = max(0, bisect.bisect_left(self.times, first_ms / 1000) - 1)
        last = min(len(self.times) - 1, bisect.bisect_left(self.times, last_ms / 1000))
        return {name: used[last] - used[first] for name, used in self.seconds.items()}

    def _used(self, name: str, pid: int) -> float:
        known = self._known.setdefault(name, {})
        try:
            process = psutil.Process(pid)
            for member in (process, *process.children(recursive=True)):
                times = member.cpu_times()
                known[member.pid] = times.user + times.system
        except psutil.Error:
            pass
        return sum(known.values())
