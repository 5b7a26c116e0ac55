"""The embedded servers as one thing: start, stop, where they are, how they are.

Under DARKROOM_HOME: `stack.json` names what runs, `ports.json` the ports of the last time, `stack.lock` is held by
whoever starts or stops, `logs/` and a folder per server hold the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from devstack.kafka import Kafka
from devstack.ports import is_listening
from devstack.postgres import Postgres
from devstack.processes import ProcessGroup
from devstack.roster import Entry, read_roster, stop_process, write_roster
from devstack.service import Service
from devstack.starting import places_for, start_group
from devstack.state import locked, ready_home
from devstack.valkey import Valkey
from streams.settings import Settings, variable_of

SERVICES: tuple[Service, ...] = (Kafka(), Postgres(), Valkey())
_attached: dict[Path, ProcessGroup] = {}


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `darkroom stack status`.

    `state` is running, starting, stopped, silent (the process is there but takes no connections) or external.
    """

    name: str
    state: str
    address: str
    pid: int | None = None
    log: str = ""


def start_stack(settings: Settings, *, attached: bool, progress: Callable[[str], None]) -> Settings:
    """Start what is not running, wait until all answer, and return the settings with their addresses.

    Attached servers die with this process, however it ends; the others live on until `stop_stack`. What runs
    already is left as it is. If one fails, those started with it are stopped again.
    Raises SetupFailed (the line says what to do) and Unavailable (another process is at it for too long).
    """
    home = ready_home(settings.home)
    with locked(home / "stack.lock", progress):
        running = _without_orphans(read_roster(home / "stack.json"))
        missing = [service for service in _embedded(settings) if service.field not in running]
        if missing:
            places = places_for(settings, home, missing, progress)
            group, entries = start_group(home / "stack.json", running, missing, places)
            if attached:
                _attached[home] = group
            else:
                group.release()
                entries = {field: replace(entry, owner_pid=0, owner_started=0.0) for field, entry in entries.items()}
                write_roster(home / "stack.json", running | entries)
    return running_settings(settings)


def stop_stack(settings: Settings) -> list[str]:
    """Stop every embedded server of this home and return their names; nothing to stop is fine.

    Raises SetupFailed: a server belongs to another user. Unavailable: another process holds the lock for too long.
    """
    home = settings.home.absolute()
    if not home.is_dir():
        return []
    with locked(home / "stack.lock", lambda line: None):
        running = read_roster(home / "stack.json")
        _stop(running)
        (home / "stack.json").unlink(missing_ok=True)
        group = _attached.pop(home, None)
        if group is not None:
            group.stop()
    return [service.title for service in SERVICES if service.field in running]


@contextlib.contextmanager
def attached_stack(settings: Settings, progress: Callable[[str], None]) -> Iterator[Settings]:
    """The stack for the time of a `with` block; servers that ran before are used and left running."""
    home = settings.home.absolute()
    started = start_stack(settings, attached=True, progress=progress)
    try:
        yield started
    finally:
        group = _attached.pop(home, None)
        if group is not None:
            group.stop()
            with locked(home / "stack.lock", progress):
                write_roster(home / "stack.json", read_roster(home / "stack.json"))


def stack_status(settings: Settings) -> list[ServiceStatus]:
    """How each server is, checked now."""
    home = settings.home.absolute()
    running = read_roster(home / "stack.json")
    found = []
    for service in SERVICES:
        variable = variable_of(service.field)
        log = str(home / "logs" / service.log_name)
        entry = running.get(service.field)
        if service not in _embedded(settings):
            found.append(ServiceStatus(service.title, "external", settings.masked()[variable]))
        elif entry is None:
            found.append(ServiceStatus(service.title, "stopped", "", None, log))
        elif not entry.address:
            found.append(ServiceStatus(service.title, "starting", "", entry.pid, log))
        else:
            state = "running" if is_listening(entry.port) else "silent"
            address = settings.model_copy(update={service.field: entry.address}).masked()[variable]
            found.append(ServiceStatus(service.title, state, address, entry.pid, log))
    return found


def running_settings(settings: Settings) -> Settings:
    """The settings with the addresses of embedded servers that run; those that do not stay None."""
    running = read_roster(settings.home.absolute() / "stack.json")
    found = {
        service.field: running[service.field].address
        for service in _embedded(settings)
        if service.field in running and running[service.field].address and not running[service.field].is_orphan()
    }
    return settings.model_copy(update=found) if found else settings


def _embedded(settings: Settings) -> list[Service]:
    return [service for service in SERVICES if not getattr(settings, service.field)]


def _without_orphans(running: dict[str, Entry]) -> dict[str, Entry]:
    """Servers of a killed owner are on their way out: be done with them before their data is used again."""
    orphans = {field: entry for field, entry in running.items() if entry.is_orphan()}
    _stop(orphans)
    return {field: entry for field, entry in running.items() if field not in orphans}


def _stop(entries: dict[str, Entry]) -> None:
    signals = {service.field: service.stop_signal for service in SERVICES}
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        list(pool.map(lambda field: stop_process(entries[field], signals[field]), entries))
