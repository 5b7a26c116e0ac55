"""Starting everything the demo needs, in order, and ending it in the opposite order."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.children import Running, darkroom, wait_until_ready
from cli.tokens import make_tokens
from cli.worker_group import worker_commands
from devstack.ports import choose_port
from devstack.processes import Command, ProcessGroup
from devstack.stack import attached_stack
from devstack.state import ready_home
from models.errors import SetupFailed
from streams.settings import Settings

# With the servers' own time to stop, everything has ended within ten seconds of Ctrl-C.
GRACE_S = 6.0
EMULATOR_LATENCY_S = (0.3, 1.2)
# The emulator takes what it is given; the real provider's pace would only slow the pictures down.
PROVIDER_PER_MINUTE = 6000
GATEWAY_PORT = 8400
# Those of demos that are over end by themselves.
TOKENS_LIVE_S = 24 * 3600

Progress = Callable[[str], None]


@dataclass(frozen=True)
class System:
    """What runs: the settings with every address, the processes beside the servers, and a token for each scope."""

    settings: Settings
    processes: list[Running]
    tokens: dict[str, str]


@contextmanager
def running_system(settings: Settings, progress: Progress) -> Iterator[System]:
    """Servers, emulator, gateway and the three worker roles, ready, for the time of a `with` block.

    Servers that are set or run already are used and left running.
    Raises SetupFailed, Unavailable, BadSetting, ChildEnded: what was started has been stopped again.
    """
    with ExitStack() as ending:
        ending.enter_context(_only_demo(ready_home(settings.home)))
        settings = _for_the_emulator(settings)
        group = ending.enter_context(ProcessGroup(GRACE_S))
        emulator = Running(group, _emulator_command(settings))
        progress("starting Kafka, Postgres and Valkey")
        settings = ending.enter_context(attached_stack(settings, progress))
        # Processes first, then their servers: nobody is left talking to a server that is gone.
        ending.callback(group.stop)
        _prepare(settings, progress)

        wait_until_ready([emulator])
        emulator_url = (emulator.ready_line() or "").partition(" ")[2].strip()
        settings = settings.model_copy(update={"replicate_base_url": emulator_url})
        progress(f"provider emulator: ready on {emulator_url}")
        tokens = make_tokens(settings, "demo", TOKENS_LIVE_S)
        progress("starting the gateway and the workers")
        commands = [darkroom("gateway", ["gateway"], settings), *worker_commands(settings)]
        processes = [Running(group, command) for command in commands]
        wait_until_ready(processes, on_ready=lambda child: progress(f"{child.name}: ready"))
        yield System(settings, [emulator, *processes], tokens)


def _for_the_emulator(settings: Settings) -> Settings:
    """Whatever provider is set, the demo spends nothing there: all of it goes to the emulator."""
    chosen = settings.model_fields_set
    changed: dict[str, object] = {
        "home": settings.home.absolute(),
        "public_url": "",
        "replicate_api_token": f"r8_{secrets.token_hex(18)}",
        "replicate_webhook_secret": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    if "gateway" not in chosen:
        port = choose_port("the gateway", "DARKROOM_GATEWAY", 0, GATEWAY_PORT, set())
        changed["gateway"] = f"127.0.0.1:{port}"
    if "emulator" not in chosen:
        changed["emulator"] = "127.0.0.1:0"
    if "provider_per_minute" not in chosen:
        changed["provider_per_minute"] = PROVIDER_PER_MINUTE
    return settings.model_copy(update=changed)


def _emulator_command(settings: Settings) -> Command:
    low_s, high_s = EMULATOR_LATENCY_S
    arguments = ["emulator", "--listen", settings.emulator]
    arguments += ["--latency-min-s", str(low_s), "--latency-max-s", str(high_s)]
    return darkroom("emulator", arguments, settings)


def _prepare(settings: Settings, progress: Progress) -> None:
    from adapters.migrate import migrate
    from streams.topics import apply_topics

    with ThreadPoolExecutor(2) as pool:
        migrating = pool.submit(migrate, settings.require("postgres"))
        applying = pool.submit(lambda: asyncio.run(apply_topics(settings)))
        migrating.result()
        progress("database: schema is up to date")
        created = applying.result()
    progress(f"topics: {len(created)} created" if created else "topics: all there")


@contextmanager
def _only_demo(home: Path) -> Iterator[None]:
    """Two demos of one home would finish each other's pictures with the wrong provider."""
    with (home / "demo.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupFailed(f"another demo runs in {home}; stop it or set DARKROOM_HOME to another folder") from None
        yield
