"""Which server runs as which process, as remembered in `stack.json` and checked against the machine."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devstack.state import read_json, write_json
from models.errors import SetupFailed

STOP_TIMEOUT_S = 20.0
_SAME_START_S = 5.0


@dataclass(frozen=True)
class Entry:
    """One started server. `marker` is part of its command line: the folder it works in.

    An entry with an owner lives no longer than that process; `address` is empty until the server is ready.
    """

    pid: int
    marker: str
    port: int
    address: str = ""
    owner_pid: int = 0
    owner_started: float = 0.0

    def is_orphan(self) -> bool:
        """Whether its owner is gone, so that it is being stopped or should be."""
        if not self.owner_pid:
            return False
        psutil = _psutil()
        try:
            return bool(abs(psutil.Process(self.owner_pid).create_time() - self.owner_started) > _SAME_START_S)
        except psutil.Error:
            return True


def owner_fields() -> dict[str, float]:
    """The fields that make this process the owner of an entry."""
    return {"owner_pid": os.getpid(), "owner_started": _psutil().Process().create_time()}


def read_roster(path: Path) -> dict[str, Entry]:
    """Entries whose process is still that process. A file left by a killed server counts for nothing."""
    entries = {}
    for name, fields in read_json(path).items():
        try:
            entry = Entry(**fields)
        except TypeError:
            continue
        if find_process(entry.pid, entry.marker):
            entries[name] = entry
    return entries


def write_roster(path: Path, entries: dict[str, Entry]) -> None:
    """Replace the file."""
    write_json(path, {name: asdict(entry) for name, entry in entries.items()})


def find_process(pid: int, marker: str) -> Any:
    """The live process with this id whose command line holds the marker: a reused id is somebody else's.

    A psutil.Process, or None.
    """
    psutil = _psutil()
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and any(marker in part for part in process.cmdline()):
            return process
    except psutil.Error:
        pass
    return None


def has_process_in(folder: Path) -> bool:
    """Whether a live process has the folder as its working directory."""
    psutil = _psutil()
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder):
                return True
        except psutil.Error:
            continue
    return False


def stop_process(entry: Entry, how: signal.Signals, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ask the process to stop and wait; kill it with its whole group when it does not. Fine when it is gone.

    Raises SetupFailed: it belongs to somebody else.
    """
    process = find_process(entry.pid, entry.marker)
    if process is None:
        return
    psutil = _psutil()
    try:
        process.send_signal(how)
        if not _gone(entry, timeout_s):
            os.killpg(entry.pid, signal.SIGKILL)
            _gone(entry, timeout_s)
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass
    except (PermissionError, psutil.AccessDenied):
        raise SetupFailed(f"process {entry.pid} belongs to another user; stop the stack as that user") from None


def _gone(entry: Entry, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while find_process(entry.pid, entry.marker) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _psutil() -> Any:
    """Part of the extra `demo`: commands that only talk to outside servers run without it."""
    try:
        import psutil
    except ImportError:
        raise SetupFailed("the embedded servers need the extra `demo`: pip install 'darkroom[demo]'") from None
    return psutil
