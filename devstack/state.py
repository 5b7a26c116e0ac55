"""The folder DARKROOM_HOME: usable or not, locked or not, and the small JSON files in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.errors import SetupFailed, Unavailable

FREE_BYTES_MIN = 300 << 20
LOCK_TIMEOUT_S = 180.0


def ready_home(home: Path) -> Path:
    """The folder, absolute, made if needed, writable and with room for data.

    Raises SetupFailed: it cannot be used; the line says why.
    """
    home = home.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(home).free
    except OSError as error:
        raise SetupFailed(
            f"{home} cannot be written ({error.strerror}); set DARKROOM_HOME to a writable folder"
        ) from None
    if free < FREE_BYTES_MIN:
        raise SetupFailed(
            f"{home} has {free >> 20} MiB of disk left and {FREE_BYTES_MIN >> 20} are needed; "
            "free some or set DARKROOM_HOME to another disk"
        )
    return home


@contextlib.contextmanager
def locked(path: Path, progress: Callable[[str], None], timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system drops it if we die.

    Raises Unavailable: another process still held it after the timeout.
    """
    with path.open("a") as file:
        deadline = time.monotonic() + timeout_s
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("the stack", f"another process has held {path} for {timeout_s:.0f} s") from None
                if not told:
                    progress("waiting for another `darkroom stack` to finish")
                    told = True
                time.sleep(0.05)
        yield


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when there is none or it was cut off."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace the file at once: a reader sees the old object or the new one. Readable by its owner only."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=1)
    draft.replace(path)
