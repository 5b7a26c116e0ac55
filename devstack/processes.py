"""Groups of child processes that start with a log file, stop together and never outlive the process that owns them."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from models.errors import SetupFailed

GRACE_S = 10.0
LOG_BYTES_MAX = 16 << 20
_GUARD = Path(__file__).with_name("guard.py")
_POLL_S = 0.02

# The child tells the guard its own pid before it becomes the program: a parent killed between the two
# leaves nothing unknown. $0 is the signal, standard input the guard's pipe.
_ANNOUNCE = 'echo "+ $$ $0" >&0; exec "$@" </dev/null'


@dataclass(frozen=True)
class Command:
    """What to run. `stop_signal` asks it to end; `user` (as root only) is whom to run it as."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None


@dataclass
class Child:
    """A started command; `returncode` is None while it runs."""

    command: Command
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def last_line(self) -> str:
        """The last line of the log that says something, at most 300 characters; empty if there is none."""
        return last_line(self.command.log)


class ProcessGroup:
    """Child processes stopped as one: on `stop()`, on leaving the `with` block, or when this process dies.

    Each child is the leader of its own session, so Ctrl-C reaches only the owner, who stops the group. `start` may
    be called from several threads.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self.children: list[Child] = []
        self._lock = threading.Lock()
        self._ended = False
        read_end, self._pipe = os.pipe()
        try:
            self._guard = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(_GUARD), str(grace_s)],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(read_end)

    def start(self, command: Command) -> Child:
        """Start it now; standard output and error are appended to its log, which is rotated once when large.

        Raises SetupFailed: the log cannot be written, the process cannot be made, or the group has been stopped.
        """
        with self._lock:
            return self._start(command)

    def _start(self, command: Command) -> Child:
        if self._ended:
            raise SetupFailed(f"{command.name} is not started: its group has been stopped")
        try:
            with open_log(command.log) as log:
                process = subprocess.Popen(  # noqa: S603
                    ["/bin/sh", "-c", _ANNOUNCE, str(int(command.stop_signal)), *command.argv],
                    stdin=self._pipe,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=command.env,
                    cwd=command.cwd,
                    start_new_session=True,
                    **as_user(command.user),
                )
        except OSError as error:
            raise SetupFailed(f"{command.name} cannot be started: {error}") from None
        child = Child(command, process)
        self.children.append(child)
        return child

    def wait_until(self, child: Child, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return once `ready()`.

        Raises SetupFailed with the last line of its log: it ended first, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            name, log = child.command.name, child.command.log
            if child.returncode is not None:
                raise SetupFailed(f"{name} ended while starting (exit {child.returncode}): {child.last_line()} ({log})")
            if time.monotonic() > deadline:
                raise SetupFailed(f"{name} was not ready after {timeout_s:.0f} s: {child.last_line()} ({log})")
            time.sleep(_POLL_S)

    def ended(self) -> list[Child]:
        """The children that are not running any more."""
        return [child for child in self.children if child.returncode is not None]

    def stop(self) -> None:
        """Ask all to stop, kill what is left after the grace time, wait for them. Harmless when repeated."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        for child in reversed(self.children):
            _ask(child, child.command.stop_signal)
        deadline = time.monotonic() + self.grace_s
        for child in self.children:
            _wait_or_kill(child, deadline - time.monotonic())
        # An interrupt above leaves the pipe open: it ends with this process, and the guard does the rest.
        self._end("".join(f"- {child.pid}\n" for child in self.children))

    def stop_one(self, child: Child, how: signal.Signals | None = None) -> int:
        """Stop one child (with its own signal unless told how) and return its exit code."""
        _ask(child, how or child.command.stop_signal)
        code = _wait_or_kill(child, self.grace_s)
        self._tell(f"- {child.pid}\n")
        with self._lock:
            self.children.remove(child)
        return code

    def release(self) -> None:
        """Let the children live on without us. Nothing of the group is used after this."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        for child in self.children:
            child.process.returncode = child.process.poll() or 0  # Popen warns about a child that still lives
        self._end("release\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _tell(self, lines: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, lines.encode())

    def _end(self, lines: str) -> None:
        self._tell(lines)
        os.close(self._pipe)
        self._guard.wait()


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending; one that has grown large becomes NAME.1 first. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


def last_line(log: Path) -> str:
    """The last line of a log that says something (stack frames do not), cut at 300 characters; empty if none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = (line.strip() for line in reversed(lines))
    return next((line[:300] for line in said if line and not line.startswith(("at ", "... "))), "")


def _ask(child: Child, how: signal.Signals) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(how)


def _wait_or_kill(child: Child, timeout_s: float) -> int:
    try:
        return child.process.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        return child.process.wait()


def as_user(user: str | None) -> dict[str, Any]:
    """Arguments of Popen that make a child run as another user (we are root); none for None."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
