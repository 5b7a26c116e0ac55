"""`darkroom audit`: the books and the events, every invariant by name with its count of violations."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.here import settings_here
from models.errors import DarkroomError

if TYPE_CHECKING:
    from models.audit import Findings
    from streams.settings import Settings


class BooksWrong(DarkroomError):
    """At least one invariant of the books does not hold."""

    code = "books_wrong"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def audit(
        books_only: Annotated[bool, typer.Option("--books-only", help="Leave Kafka's topics out.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False,
    ) -> None:
        """Check the books in one consistent snapshot, then events against rows; exit 1 if any invariant is violated."""
        began = time.monotonic()
        findings = asyncio.run(audit_all(settings_here(), books_only=books_only))
        if as_json:
            typer.echo(json.dumps(as_document(findings)))
            if findings.violations:
                raise typer.Exit(1)
            return
        _print_table(findings, time.monotonic() - began)
        if findings.violations:
            broken = ", ".join(name for name, count in findings.counts.items() if count)
            raise BooksWrong(f"the books are wrong: {broken}")


async def audit_all(settings: Settings, *, books_only: bool = False) -> Findings:
    """All findings. Raises Unavailable; SetupFailed when topics are missing."""
    from adapters.audit import audit
    from streams.event_audit import audit_events

    findings = await audit(settings.require("postgres"))
    return findings if books_only else findings.and_also(await audit_events(settings))


def as_document(findings: Findings) -> dict[str, object]:
    """What `--json` prints."""
    return {"violations": findings.violations, "invariants": findings.counts, "examples": findings.examples}


def _print_table(findings: Findings, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from models.audit import SENTENCES

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("invariant", no_wrap=True)
    table.add_column("violations", justify="right")
    table.add_column("what must be true")
    for name, count in findings.counts.items():
        sentence = SENTENCES[name]
        if count:
            sentence += f" (such as {findings.examples.get(name, '?')})"
        table.add_row(name, str(count), sentence, style="red" if count else None)
    console = Console()
    console.print(table)
    console.print(f"{findings.violations} violations in {len(findings.counts)} invariants, checked in {seconds:.1f} s")
