"""`darkroom cache`: the credit cache in an emergency."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from cli.here import settings_here

if TYPE_CHECKING:
    from streams.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    cache = typer.Typer(help="The credit cache in Redis.", no_args_is_help=True)
    app.add_typer(cache, name="cache")

    @cache.command()
    def flush(as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False) -> None:
        """Drop every cached balance; each is read from Postgres again when it is next asked for."""
        dropped = asyncio.run(_flush(settings_here()))
        typer.echo(json.dumps({"dropped": dropped}) if as_json else f"dropped {dropped} cached balances")


async def _flush(settings: Settings) -> int:
    from adapters.credit_cache import CreditCache

    cache = CreditCache(settings.require("redis"))
    try:
        return await cache.flush()
    finally:
        await cache.close()
