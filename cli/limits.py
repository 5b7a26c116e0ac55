"""`darkroom limits`: the policies that hold, changing one while everything runs, and who hits them most."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.here import settings_here
from models.errors import WrongUse
from models.limits import LIMIT_MAX, WINDOW_S_MAX
from models.operations import POLICIES, Mode

if TYPE_CHECKING:
    from models.operations import Policy

JsonFlag = Annotated[bool, typer.Option("--json", help="For a program to read.")]
TOP_TIMEOUT_S = 60.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    limits = typer.Typer(help="Rate limits: show, change live, find who hits them.", no_args_is_help=True)
    app.add_typer(limits, name="limits")

    @limits.command("show")
    def show(as_json: JsonFlag = False) -> None:
        """The policies as they hold now."""
        from streams.limit_levers import read_policies

        policies = asyncio.run(read_policies(settings_here()))
        if as_json:
            typer.echo(json.dumps([_document(policy) for policy in policies.values()]))
            return
        for policy in policies.values():
            typer.echo(_line(policy))

    @limits.command("set")
    def set_(
        name: Annotated[str, typer.Argument(metavar="POLICY", help="Such as maya.image.")],
        limit: Annotated[int | None, typer.Option(help=f"Requests in a window, 0 to {LIMIT_MAX:,}.")] = None,
        window_s: Annotated[int | None, typer.Option("--window", help=f"Seconds, 1 to {WINDOW_S_MAX:,}.")] = None,
        mode: Annotated[Mode | None, typer.Option(help="shadow only counts what it would refuse.")] = None,
        max_in_flight: Annotated[int | None, typer.Option(help="Unfinished requests at once; 0: no cap.")] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Change a policy for all workers, within a second; what is not named stays as it is."""
        from streams.limit_levers import change_limits

        if name not in POLICIES:
            raise WrongUse(f"there is no policy {name}; there are: {', '.join(POLICIES)}")
        change: dict[str, object] = {"limit": limit, "window_s": window_s, "mode": mode, "max_in_flight": max_in_flight}
        named = {field: value for field, value in change.items() if value is not None}
        if not named:
            raise WrongUse("name at least one of --limit, --window, --mode and --max-in-flight")
        if max_in_flight == 0:
            named["max_in_flight"] = None
        before, after = asyncio.run(change_limits(settings_here(), name, named))
        if as_json:
            typer.echo(json.dumps({"before": _document(before), "after": _document(after)}))
            return
        typer.echo(f"was  {_line(before)}\nis   {_line(after)}")

    @limits.command("top")
    def top(
        minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="How far to look back.")] = 60.0,
        count: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many to show.")] = 20,
        as_json: JsonFlag = False,
    ) -> None:
        """Who was refused most by which policy, from the refusals that Kafka keeps."""
        from streams.limit_levers import count_refusals

        since_ms = int((time.time() - minutes * 60) * 1000)
        found, is_complete = asyncio.run(count_refusals(settings_here(), since_ms, timeout_s=TOP_TIMEOUT_S))
        rows = [
            {"user_id": user_id, "policy": policy, "refusals": refusals}
            for (user_id, policy), refusals in found.most_common(count)
        ]
        if as_json:
            typer.echo(json.dumps({"minutes": minutes, "is_complete": is_complete, "top": rows}))
            return
        for row in rows:
            typer.echo(f"{row['refusals']:>8}  {row['policy']:<16} {row['user_id']}")
        if not rows:
            typer.echo(f"nobody was refused in the last {minutes:g} minutes")
        if not is_complete:
            typer.echo(f"only a part was read in {TOP_TIMEOUT_S:g} s; look back less far", err=True)


def _document(policy: Policy) -> dict[str, object]:
    return {
        "policy": policy.name,
        "limit": policy.limit,
        "window_s": policy.window_s,
        "mode": policy.mode.value,
        "max_in_flight": policy.max_in_flight,
    }


def _line(policy: Policy) -> str:
    at_once = "any number" if policy.max_in_flight is None else str(policy.max_in_flight)
    return f"{policy.name:<16} {policy.limit:>7} in {policy.window_s} s, {policy.mode}, {at_once} at once"
