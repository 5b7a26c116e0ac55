"""`darkroom trace`: one request's whole timeline."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.here import settings_here
from models.errors import DarkroomError, WrongUse

if TYPE_CHECKING:
    from adapters.timeline import Kept
    from models.timeline import Event, Moment
    from streams.settings import Settings

SCAN_TIMEOUT_S = 20.0
# A request that was refused may have been sent again under the same id: look a while before its admission.
BEFORE_ADMISSION_MS = 3_600_000


class UnknownRequest(DarkroomError):
    """Nothing is known of this request."""

    code = "unknown_request"


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
    from models.timeline import build, millis, owner_of
    from streams.search import events_of_request

    kept = await kept_of_request(settings.require("postgres"), request_id, user_id)
    since_ms = None
    if kept.row is not None:
        user_id = kept.row["user_id"]
        since_ms = millis(kept.row["admitted_at"]) - BEFORE_ADMISSION_MS
    events, is_complete = await events_of_request(settings, request_id, user_id, since_ms=since_ms, timeout_s=timeout_s)
    events.sort(key=lambda event: event.at_ms)
    owners = {owner[0] for event in events if (owner := owner_of(event.topic, event.body))}
    if len(owners) > 1:
        raise WrongUse(f"several users have a request {request_id}: name one with --user ({', '.join(sorted(owners))})")
    if not events and kept.row is None:
        raise UnknownRequest(f"no request {request_id} is known" + ("" if is_complete else " so far: try --timeout"))
    moments = build(events, kept.row, kept.ledger, kept.images)
    if as_json:
        typer.echo(json.dumps(_document(request_id, kept, events, moments, is_complete)))
        return
    _print_timeline(request_id, next(iter(owners), user_id), kept, moments)
    if not is_complete:
        typer.echo(f"stopped after {timeout_s:g} s: there may be more events (--timeout)", err=True)


def _document(
    request_id: str, kept: Kept, events: list[Event], moments: list[Moment], is_complete: bool
) -> dict[str, Any]:
    """Times as RFC 3339 and, as `ms`, since the first moment."""
    from models.outputs import rfc3339
    from models.timeline import millis

    start_ms = moments[0].at_ms

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        return {name: rfc3339(millis(value)) if isinstance(value, datetime) else value for name, value in row.items()}

    def timed(row: dict[str, Any], at_ms: int) -> dict[str, Any]:
        return {"ms": at_ms - start_ms, "at": rfc3339(at_ms), **row}

    return {
        "request_id": request_id,
        "complete": is_complete,
        "row": plain(kept.row) if kept.row is not None else None,
        "events": [timed(_without_time(asdict(event)), event.at_ms) for event in events],
        "ledger": [timed(plain(entry), millis(entry["created_at"])) for entry in kept.ledger],
        "images": [timed(plain(image), millis(image["created_at"])) for image in kept.images],
        "timeline": [timed(_without_time(asdict(moment)), moment.at_ms) for moment in moments],
    }


def _without_time(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "at_ms"}


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
