"""`darkroom` commands as child processes: their environment, their logs, and when they say that they are ready."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from devstack.processes import Child, Command, ProcessGroup
from models.errors import DarkroomError
from streams.settings import Settings, variable_of

READY = "ready"
READY_TIMEOUT_S = 90.0
_POLL_S = 0.05


class ChildEnded(DarkroomError):
    """A process of a group ended by itself."""

    code = "child_ended"

    def __init__(self, child: Child) -> None:
        name, log = child.command.name, child.command.log
        super().__init__(f"{name} ended (exit {child.returncode}): {child.last_line()} ({log})")


class Running:
    """A started child. Its log may hold lines of earlier runs; only what it wrote itself counts."""

    def __init__(self, group: ProcessGroup, command: Command) -> None:
        before = command.log.stat().st_size if command.log.exists() else 0
        self.child = group.start(command)
        # The log is moved away when it has grown large: then everything in the new one is ours.
        self._from = before if command.log.stat().st_size >= before else 0
        self._ready_line: str | None = None

    @property
    def name(self) -> str:
        """The child's name."""
        return self.child.command.name

    def ready_line(self) -> str | None:
        """The line with which it said that it is ready, None before that."""
        if self._ready_line is None:
            with self.child.command.log.open("rb") as log:
                log.seek(self._from)
                lines = log.read().decode(errors="replace").splitlines()
            self._ready_line = next((line for line in lines if line.split(" ", 1)[0] == READY), None)
        return self._ready_line


def environment_of(settings: Settings) -> dict[str, str]:
    """Our environment with every setting that has a value, so that a child sees exactly what we see."""
    environment = dict(os.environ)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, tuple):
            value = ",".join(value)
        elif isinstance(value, Path):
            value = value.absolute()
        if value is not None:
            environment[variable_of(name)] = str(value)
    return environment


def darkroom(name: str, arguments: Sequence[str], settings: Settings) -> Command:
    """A `darkroom` command to be started; its log is logs/NAME.log under the home folder."""
    log = settings.home.absolute() / "logs" / f"{name}.log"
    # -P: nothing in the folder we happen to be in may be imported instead of Darkroom's own packages.
    return Command(name, [sys.executable, "-P", "-m", "cli.main", *arguments], log, env=environment_of(settings))


def wait_until_ready(
    running: Sequence[Running],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_ready: Callable[[Running], None] = lambda child: None,
    timeout_s: float = READY_TIMEOUT_S,
) -> bool:
    """Return True once all have said that they are ready, False when asked to stop before.

    Raises ChildEnded: one of them ended. DarkroomError: one of them is not ready in time.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(running)
    while waiting and not should_stop():
        for child in list(waiting):
            if child.ready_line() is not None:
                waiting.remove(child)
                on_ready(child)
        check_alive(running)
        if waiting and time.monotonic() > deadline:
            late = waiting[0].child
            raise DarkroomError(
                f"{late.command.name} was not ready after {timeout_s:.0f} s: {late.last_line()} ({late.command.log})"
            )
        if waiting:
            time.sleep(_POLL_S)
    return not waiting


def check_alive(running: Sequence[Running]) -> None:
    """Raises ChildEnded for the first that does not run any more."""
    for child in running:
        if child.child.returncode is not None:
            raise ChildEnded(child.child)
