"""Starting several embedded servers side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devstack.ports import choose_port
from devstack.processes import ProcessGroup
from devstack.roster import Entry, owner_fields, write_roster
from devstack.service import Place, Service, port_field
from devstack.state import read_json, write_json
from models.errors import SetupFailed
from streams.settings import Settings, variable_of


def places_for(
    settings: Settings, home: Path, services: list[Service], progress: Callable[[str], None]
) -> dict[str, Place]:
    """Where each server will live. All ports are chosen before anything starts, and remembered.

    Raises SetupFailed: a wanted port is taken.
    """
    remembered = read_json(home / "ports.json")
    wanted = {service.field: int(getattr(settings, port_field(service))) for service in services}
    taken = set(wanted.values()) - {0}
    places = {}
    for service in services:
        before = remembered.get(service.field, {})
        variable = variable_of(port_field(service))
        own = wanted[service.field]
        ports = {"main": choose_port(service.title, variable, own, before.get("main"), taken - {own})}
        taken.add(ports["main"])
        for extra in service.extra_ports:
            ports[extra] = choose_port(f"{service.title}'s {extra}", variable, 0, before.get(extra), taken)
            taken.add(ports[extra])
        remembered[service.field] = ports
        folder = home / service.title.lower()
        places[service.field] = Place(settings, folder, home / "logs" / service.log_name, ports, progress)
    write_json(home / "ports.json", remembered)
    return places


def start_group(
    roster: Path, running: dict[str, Entry], services: list[Service], places: dict[str, Place]
) -> tuple[ProcessGroup, dict[str, Entry]]:
    """Start the servers and return when all are ready; they are ours, and die with us, until released.

    Raises SetupFailed: one did not start; the others are stopped again.
    """
    entries: dict[str, Entry] = {}
    lock = threading.Lock()

    def note(field: str, entry: Entry) -> None:
        with lock:
            entries[field] = entry
            write_roster(roster, running | entries)

    try:
        group = ProcessGroup()
        with ThreadPoolExecutor(len(services)) as pool:
            try:
                for service in services:
                    service.fetch(places[service.field])
                starting = [
                    pool.submit(_start_one, group, service, places[service.field], note) for service in services
                ]
                for future in starting:
                    future.result()
            except BaseException:
                # Before the pool is waited for: those that wait for a server to get ready see it end.
                group.stop()
                write_roster(roster, running)
                raise
    except OSError as error:
        raise SetupFailed(f"the stack cannot be started in {roster.parent}: {error}") from None
    return group, entries


def _start_one(group: ProcessGroup, service: Service, place: Place, note: Callable[[str, Entry], None]) -> None:
    place.folder.mkdir(parents=True, exist_ok=True)
    child = group.start(service.prepare(place))
    entry = Entry(child.pid, str(place.folder), place.ports["main"], **owner_fields())  # type: ignore[arg-type]
    note(service.field, entry)
    # From here on a killed owner leaves a line in the roster: the next start is done with it first.
    group.wait_until(child, lambda: service.is_ready(place), service.ready_timeout_s)
    entry = Entry(child.pid, entry.marker, entry.port, service.address(place), entry.owner_pid, entry.owner_started)
    note(service.field, entry)
    place.progress(f"{service.title}: ready on port {entry.port}")
