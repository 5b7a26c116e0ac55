"""A gateway and what it needs, as processes of their own, for the benchmarks of the doors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.children import Command, Running, darkroom, wait_until_ready
from devstack.ports import choose_port
from devstack.processes import ProcessGroup
from models.access import Scope
from streams.settings import Settings, variable_of

GRACE_S = 12.0
COMMAND_TIMEOUT_S = 60.0
REQUESTS_PER_S = 10_000


@contextmanager
def gateway_process(settings: Settings, beside: Sequence[Command] = ()) -> Iterator[tuple[str, Running]]:
    """A running gateway on a free port, as (url, process), with other commands beside it. Raises SetupFailed."""
    with ProcessGroup(GRACE_S) as group:
        running = [Running(group, command) for command in (darkroom("gateway", ["gateway"], settings), *beside)]
        wait_until_ready(running)
        yield f"http://{settings.gateway}", running[0]


def with_gateway(settings: Settings) -> Settings:
    """The same settings with a free port for the gateway, and limits above what is measured."""
    port = choose_port("the gateway", "DARKROOM_GATEWAY", 0, None, set())
    changed = {"gateway": f"127.0.0.1:{port}", "public_url": "", "token_requests_per_s": REQUESTS_PER_S}
    return settings.model_copy(update=changed)


def new_token(settings: Settings, scope: Scope) -> str:
    """A token, made as an operator makes one."""
    variables = {variable_of(name): str(getattr(settings, name)) for name in ("kafka", "postgres", "redis", "home")}
    made = subprocess.run(
        [sys.executable, "-m", "cli.main", "tokens", "create", "--scope", scope.value, "--name", "bench"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
    )
    return made.stdout.strip().splitlines()[-1]


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
