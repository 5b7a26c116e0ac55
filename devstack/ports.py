"""Loopback ports for the embedded servers."""

from __future__ import annotations

import random
import socket

from models.errors import SetupFailed

HOST = "127.0.0.1"
# Below the range that outgoing connections are given, so that none of them sits on a remembered port.
_RANGE = range(20000, 30000)
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def is_listening(port: int, timeout_s: float = 1.0) -> bool:
    """Whether somebody accepts connections on the port."""
    try:
        socket.create_connection((HOST, port), timeout_s).close()
    except OSError:
        return False
    return True


def choose_port(name: str, variable: str, wanted: int, remembered: int | None, taken: set[int]) -> int:
    """The wanted port; else the one of the last time if it is free; else any free one that is not in `taken`.

    Raises SetupFailed: the wanted port (0 is none) is taken, or no port is free.
    """
    if wanted:
        if wanted in taken or not is_free(wanted):
            raise SetupFailed(f"port {wanted} for {name} is taken; set {variable} to a free one, or to 0 for any")
        return wanted
    if remembered and remembered not in taken and is_free(remembered):
        return remembered
    for _ in range(_TRIES):
        port = random.choice(_RANGE)  # noqa: S311
        if port not in taken and is_free(port):
            return port
    raise SetupFailed(f"no free port for {name} between {_RANGE.start} and {_RANGE.stop}; set {variable}")
