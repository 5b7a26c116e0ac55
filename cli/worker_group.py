"""All worker roles as child processes of one group: they start together and none goes on without the others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from cli.children import Running, check_alive, darkroom, wait_until_ready
from devstack.processes import Command, ProcessGroup
from streams.settings import Settings

ROLES = ("admission", "fulfilment", "projections")
# A worker gives itself nine seconds to stop; the group must have ended within ten.
GRACE_S = 9.5
_LOOK_S = 0.2


def worker_commands(settings: Settings) -> list[Command]:
    """The three roles. A fixed metrics port is the first one's; the others take the two that follow."""
    commands = []
    for number, role in enumerate(ROLES):
        port = settings.metrics_port + number if settings.metrics_port else 0
        own = settings.model_copy(update={"metrics_port": port})
        commands.append(darkroom(f"worker-{role}", ["worker", role], own))
    return commands


def run_all(settings: Settings) -> int:
    """Run the three roles until TERM or Ctrl-C; prints `ready` when all are. Returns the exit code.

    Raises ChildEnded: one ended by itself, and the others have been stopped. SetupFailed: one cannot be started.
    """
    with _stop_event() as stop, ProcessGroup(GRACE_S) as group:
        running = [Running(group, command) for command in worker_commands(settings)]
        typer.echo(f"logs in {running[0].child.command.log.parent}")
        if wait_until_ready(running, should_stop=stop.is_set):
            typer.echo("ready")
        while not stop.wait(_LOOK_S):
            check_alive(running)
    return 0


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Set by TERM and Ctrl-C, which end nothing by themselves until the block has ended."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
