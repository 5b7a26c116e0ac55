"""`darkroom stack`: the embedded Kafka, Postgres and Valkey."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import DarkroomError

if TYPE_CHECKING:
    from streams.settings import Settings

JsonFlag = Annotated[bool, typer.Option("--json", help="For a program to read.")]
_ADDRESSES = ("kafka", "postgres", "redis")


class StackNotRunning(DarkroomError):
    """At least one embedded server is not running."""

    code = "stack_not_running"

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"not running: {', '.join(names)}; start with `darkroom stack up`")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    stack = typer.Typer(help="The embedded Kafka, Postgres and Valkey of this machine.", no_args_is_help=True)
    app.add_typer(stack, name="stack")

    @stack.command("up")
    def up(
        attached: Annotated[
            bool, typer.Option("--attached", help="Stay until interrupted; the servers end with this command.")
        ] = False,
    ) -> None:
        """Start what is not running and return when all answer; they live on until `stack down`."""
        from devstack.stack import start_stack
        from streams.settings import load_settings

        settings = load_settings()
        if attached:
            _stay(settings)
            return
        start_stack(settings, attached=False, progress=_progress)
        typer.echo(f"ready; data and logs in {settings.home.absolute()}")

    @stack.command("down")
    def down() -> None:
        """Stop all embedded servers; their data stays."""
        from devstack.stack import stop_stack
        from streams.settings import load_settings

        stopped = stop_stack(load_settings())
        typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")

    @stack.command("status")
    def status(as_json: JsonFlag = False) -> None:
        """Show each server; exit 1 if one is not running."""
        from dataclasses import asdict

        from devstack.stack import stack_status
        from streams.settings import load_settings

        found = stack_status(load_settings())
        if as_json:
            typer.echo(json.dumps([asdict(service) for service in found]))
        else:
            for service in found:
                pid = f"pid {service.pid}" if service.pid else ""
                typer.echo(f"{service.name:<9} {service.state:<9} {pid:<11} {service.address or service.log}")
        missing = [service.name for service in found if service.state not in {"running", "external"}]
        if missing:
            raise StackNotRunning(missing)

    @stack.command("env")
    def env(as_json: JsonFlag = False) -> None:
        """Print the addresses as export lines: eval "$(darkroom stack env)"."""
        from devstack.stack import running_settings
        from streams.settings import load_settings, variable_of

        settings = running_settings(load_settings())
        missing = [name for name in _ADDRESSES if not getattr(settings, name)]
        if missing:
            raise StackNotRunning(missing)
        values = {variable_of("home"): str(settings.home.absolute())}
        values |= {variable_of(name): str(getattr(settings, name)) for name in _ADDRESSES}
        if as_json:
            typer.echo(json.dumps(values))
            return
        for variable, value in values.items():
            typer.echo(f"export {variable}={shlex.quote(value)}")


def _stay(settings: Settings) -> None:
    import signal
    import threading

    from devstack.stack import attached_stack

    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # While starting, an interrupt ends the start; the group is stopped on the way out.
        signal.signal(number, signal.default_int_handler)
    with attached_stack(settings, _progress):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: asked_to_stop.set())
        typer.echo("ready")
        asked_to_stop.wait()
    typer.echo("stopped")


def _progress(line: str) -> None:
    typer.echo(line, err=True)
