"""`darkroom worker`: one role, or all of them as processes of one group."""

from __future__ import annotations

import asyncio
import os
import sys
from enum import StrEnum
from typing import Annotated

import typer


class RoleChoice(StrEnum):
    """The command line's words."""

    ADMISSION = "admission"
    FULFILMENT = "fulfilment"
    PROJECTIONS = "projections"
    ALL = "all"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker(role: Annotated[RoleChoice, typer.Argument(help="Which role to run.")] = RoleChoice.ALL) -> None:
        """Run a worker role (or all) until TERM; prints `ready` when it has its partitions."""
        from devstack.stack import running_settings
        from streams.settings import load_settings

        settings = running_settings(load_settings())
        if role is RoleChoice.ALL:
            from cli.worker_group import run_all

            sys.exit(run_all(settings))
        import uvloop

        from cli.roles import Role, run_role
        from streams.logs import configure_logs

        configure_logs()
        # Faust's consumer has a thread and a loop of its own, which it asks the policy for.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        code = uvloop.run(run_role(Role(role), settings))
        # Faust's consumer thread may still be there if the broker was away: Python would wait for it for ever, and it
        # would go on holding its partitions.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
