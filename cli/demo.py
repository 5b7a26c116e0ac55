"""`darkroom demo`: everything from nothing to finished pictures, on this machine."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.here import quiet_drivers

if TYPE_CHECKING:
    from cli.demo_run import Run
    from cli.demo_system import System
    from models.audit import Findings

REQUESTS = 40
EXIT_PER_S = 10.0
LIVE_PER_S = 1.5
# How long the last of the requests may take; the pictures of many are drawn one after the other.
TIMEOUT_S = 120.0
SEED = 20_260_131


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        requests: Annotated[int, typer.Option(min=1, max=100_000, help="With --exit: how many to make.")] = REQUESTS,
        exit_: Annotated[
            bool, typer.Option("--exit", help="End when each is finished; the last line is a JSON summary.")
        ] = False,
        per_s: Annotated[
            float | None, typer.Option("--rate", min=0.1, max=1000, help="Requests a second.", show_default=False)
        ] = None,
    ) -> None:
        """Start everything, make real requests and show the pictures that come out, until interrupted."""
        from cli.demo_system import running_system
        from streams.settings import load_settings

        quiet_drivers()
        settings = load_settings()
        with _orderly_end():
            if exit_:
                with running_system(settings, _progress()) as system:
                    summary, is_good = asyncio.run(_run_to_the_end(system, requests, per_s or EXIT_PER_S))
                    _allow_no_interrupt()
                typer.echo(json.dumps(summary, separators=(",", ":")))
                raise typer.Exit(0 if is_good else 1)
            with running_system(settings, _progress()) as system:
                asyncio.run(_run_live(system, per_s or LIVE_PER_S))
                _allow_no_interrupt()
                typer.echo("stopping", err=True)


async def _run_to_the_end(system: System, requests: int, per_s: float) -> tuple[dict[str, int | float], bool]:
    from cli.audit import audit_all
    from cli.demo_run import Run
    from cli.demo_sheet import ContactSheet
    from cli.demo_traffic import users_for, wishes
    from cli.demo_view import over_http

    name = _run_name()
    users = users_for(requests, name)
    run = Run(system, users, name, lambda finished: None)
    _stop_on_signals(run)
    typer.echo(f"over HTTP: {over_http(system.settings, system.tokens)}", err=True)
    typer.echo(f"making {requests} requests of {len(users)} users", err=True)
    telling = asyncio.create_task(_tell_progress(run, requests))
    await run.follow(wishes(users, SEED), requests=requests, per_s=per_s, timeout_s=TIMEOUT_S)
    telling.cancel()
    if run.stop.is_set():
        raise KeyboardInterrupt
    for problem in (*run.tally.problems, *(f"{name} did not end" for name in run.tally.unfinished()[:5])):
        typer.echo(problem, err=True)
    sheet = ContactSheet(system.settings)
    await sheet.refresh(run.tally)
    typer.echo(f"contact sheet: {sheet.path}", err=True)
    typer.echo("checking the books", err=True)
    findings = await audit_all(system.settings)
    _tell_violations(findings)
    completed = run.tally.counts["completed"]
    return run.tally.summary(run.seconds, findings.violations), completed == requests and not findings.violations


async def _run_live(system: System, per_s: float) -> None:
    from cli.demo_run import Run
    from cli.demo_sheet import ContactSheet
    from cli.demo_traffic import NAMES, wishes
    from cli.demo_view import guide, show

    name = _run_name()
    users = list(NAMES)
    run = Run(system, users, name, lambda finished: None)
    _stop_on_signals(run)
    sheet = ContactSheet(system.settings)
    typer.echo("\n".join(["", *guide(system.settings, sheet.path, system.tokens), ""]))
    beside = [
        asyncio.create_task(show(run, live=sys.stdout.isatty())),
        asyncio.create_task(sheet.keep_fresh(run.tally)),
    ]
    try:
        seed = int(time.time())
        await run.follow(wishes(users, seed), requests=None, per_s=per_s, timeout_s=TIMEOUT_S)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def _tell_progress(run: Run, requests: int) -> None:
    while True:
        await asyncio.sleep(2.0)
        typer.echo(f"{run.tally.counts['completed']} of {requests} completed", err=True)


def _tell_violations(findings: Findings) -> None:
    from models.audit import SENTENCES

    for invariant, count in findings.counts.items():
        if count:
            example = findings.examples.get(invariant, "")
            typer.echo(f"{invariant}: {count} violations, such as {example}: {SENTENCES[invariant]}", err=True)


def _progress() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda line: typer.echo(f"[{time.monotonic() - began:5.1f} s] {line}", err=True)


def _run_name() -> str:
    return uuid.uuid4().hex[:6]


@contextmanager
def _orderly_end() -> Iterator[None]:
    """TERM and a closed terminal end the demo as Ctrl-C does; once it is ending, nothing interrupts that."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt_once) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt_once(number: int, frame: object) -> None:
    _allow_no_interrupt()
    raise KeyboardInterrupt


def _allow_no_interrupt() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _stop_on_signals(run: Run) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, run.stop.set)
