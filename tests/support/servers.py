"""The Kafka, Postgres and Valkey that all tests of a run share.

In this order: the stack in DARKROOM_TEST_HOME, started if need be and left running; the servers named by all of
DARKROOM_KAFKA, DARKROOM_POSTGRES and DARKROOM_REDIS; otherwise a stack of the run's own, gone at its end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from devstack.stack import attached_stack, start_stack
from streams.settings import Settings, load_settings

HOME_VARIABLE = "DARKROOM_TEST_HOME"
_ADDRESSES = ("DARKROOM_KAFKA", "DARKROOM_POSTGRES", "DARKROOM_REDIS")
_KEPT = {HOME_VARIABLE, "DARKROOM_CACHE", "DARKROOM_TRACEBACK", *_ADDRESSES}


def forget_outer_settings() -> None:
    """Tests must not depend on what the shell has set; addresses stay if all three are there."""
    kept = _KEPT if all(os.environ.get(name) for name in _ADDRESSES) else _KEPT - set(_ADDRESSES)
    for name in list(os.environ):
        if name.startswith(("DARKROOM_", "REPLICATE_")) and name not in kept:
            del os.environ[name]


@contextmanager
def shared_servers() -> Iterator[Settings]:
    """Settings with the three addresses, for the time of the run."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        # A stack that lives on has a folder of its own: the addresses of other servers do not count here.
        yield start_stack(
            load_settings(home=Path(home), kafka=None, postgres=None, redis=None), attached=False, progress=_quiet
        )
    elif os.environ.get("DARKROOM_KAFKA"):
        yield load_settings()
    else:
        folder = Path(tempfile.mkdtemp(prefix="darkroom-tests-"))
        try:
            with attached_stack(load_settings(home=folder), _quiet) as settings:
                yield settings
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def delete_topics(address: str, prefix: str) -> None:
    """Delete every topic whose name begins with the prefix."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=20_000)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if names:
            await admin.delete_topics(names, timeout_ms=20_000)
    finally:
        await admin.close()


def _quiet(line: str) -> None:
    pass
