"""`darkroom trace`: one request's whole timeline."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from cli.here import settings_here

if TYPE_CHECKING:
    from adapters.timeline import Kept
    from models.timeline import Moment
    from streams.settings import Settings

SCAN_TIMEOUT_S = 20.0


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def trace(
        request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request's id.")],
        user: Annotated[str, typer.Option(help="Whose request; needed when several users have this id.")] = "",
        timeout_s: Annotated[
            float, typer.Option("--timeout", min=1, help="Seconds to look through the topics.")
        ] = SCAN_TIMEOUT_S,
        as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False,
    ) -> None:
        """Show everything that is known of a request, in order of time."""
        asyncio.run(_trace(settings_here(), request_id, user or None, timeout_s, as_json))


async def _trace(settings: Settings, request_id: str, user_id: str | None, timeout_s: float, as_json: bool) -> None:
    from adapters.timeline import kept_of_request
    from models.timeline import build
    from models.timeline_document import UnknownRequest, owner_in, scan_start_ms, timeline_document
    from streams.search import events_of_request

    kept = await kept_of_request(settings.require("postgres"), request_id, user_id)
    if kept.row is not None:
        user_id = kept.row["user_id"]
    since_ms = scan_start_ms(kept.row)
    events, is_complete = await events_of_request(settings, request_id, user_id, since_ms=since_ms, timeout_s=timeout_s)
    events.sort(key=lambda event: event.at_ms)
    owner = owner_in(request_id, events, user_id)
    if not events and kept.row is None:
        raise UnknownRequest(f"no request {request_id} is known" + ("" if is_complete else " so far: try --timeout"))
    moments = build(events, kept.row, kept.ledger, kept.images)
    if as_json:
        document = timeline_document(
            request_id, kept.row, kept.ledger, kept.images, events, moments, is_complete=is_complete
        )
        typer.echo(json.dumps(document))
        return
    _print_timeline(request_id, owner, kept, moments)
    if not is_complete:
        typer.echo(f"stopped after {timeout_s:g} s: there may be more events (--timeout)", err=True)


def _print_timeline(request_id: str, user_id: str | None, kept: Kept, moments: list[Moment]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from models.outputs import rfc3339

    row = kept.row
    state = "was never admitted" if row is None else f"{row['operation']}, {row['state']}, attempts: {row['attempts']}"
    typer.echo(f"{request_id} of {user_id}: {state}; began {rfc3339(moments[0].at_ms)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms", justify="right", no_wrap=True)
    for name in ("what", "where", "says"):
        table.add_column(name, overflow="fold")
    for moment in moments:
        table.add_row(str(moment.at_ms - moments[0].at_ms), moment.kind, Text(moment.where), Text(moment.says))
    Console().print(table)
