"""Everything that a request passes through, as processes of their own: emulator, gateway, and one worker a role."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cli.children import Running, check_alive, darkroom, wait_until_ready
from cli.worker_group import worker_commands
from devstack.ports import choose_port
from devstack.processes import ProcessGroup
from streams.settings import Settings

GRACE_S = 12.0
# Above what one machine reaches: the pace must not be what is measured.
PROVIDER_PER_MINUTE = 60_000
# So many pictures are drawn, and every file is stamped to be one of its own: drawing is the provider's work, not ours.
DISTINCT_PICTURES = 24


@dataclass(frozen=True)
class WholeSystem:
    """What runs; `settings` has every address."""

    settings: Settings
    processes: list[Running]

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {process.name: process.child.pid for process in self.processes}

    def check(self) -> None:
        """Raises ChildEnded: one of them has ended."""
        check_alive(self.processes)


@contextmanager
def whole_system(settings: Settings, *, latency_s: tuple[float, float], long_side_px: int) -> Iterator[WholeSystem]:
    """Start everything on these servers, database and topics; stop it when the block ends.

    Raises SetupFailed, ChildEnded.
    """
    ports: set[int] = set()
    gateway = choose_port("the gateway", "DARKROOM_GATEWAY", 0, None, ports)
    settings = settings.model_copy(
        update={
            "gateway": f"127.0.0.1:{gateway}",
            "emulator": "127.0.0.1:0",
            "public_url": "",
            "metrics_port": 0,
            "blobs": "",
            "replicate_api_token": f"r8_{secrets.token_hex(18)}",
            "replicate_webhook_secret": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "provider_per_minute": PROVIDER_PER_MINUTE,
        }
    )
    arguments = ["emulator", "--listen", settings.emulator, "--long-side-px", str(long_side_px)]
    arguments += ["--latency-min-s", str(latency_s[0]), "--latency-max-s", str(latency_s[1])]
    arguments += ["--distinct-pictures", str(DISTINCT_PICTURES)]
    with ProcessGroup(GRACE_S) as group:
        emulator = Running(group, darkroom("emulator", arguments, settings))
        wait_until_ready([emulator])
        emulator_url = (emulator.ready_line() or "").partition(" ")[2].strip()
        settings = settings.model_copy(update={"replicate_base_url": emulator_url})
        commands = [darkroom("gateway", ["gateway"], settings), *worker_commands(settings)]
        processes = [emulator, *(Running(group, command) for command in commands)]
        wait_until_ready(processes)
        yield WholeSystem(settings, processes)
