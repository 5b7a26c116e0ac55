"""`darkroom settings`: what the environment comes to."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def settings(as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False) -> None:
        """Print every setting with its value; secrets are masked, addresses of the running stack filled in."""
        from devstack.stack import running_settings
        from streams.settings import load_settings

        shown = running_settings(load_settings()).masked()
        if as_json:
            typer.echo(json.dumps(shown))
            return
        width = max(map(len, shown))
        for variable, value in shown.items():
            typer.echo(f"{variable:<{width}}  {value}".rstrip())
