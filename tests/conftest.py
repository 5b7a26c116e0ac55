"""One stack for the whole run; per test a database, topics and a Valkey database of its own."""

from __future__ import annotations

import itertools
import os
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis.asyncio

from adapters.migrate import migrate
from devstack.ports import choose_port
from devstack.valkey import DATABASES
from streams.settings import Settings, load_settings
from streams.topics import apply_topics
from tests.support.databases import create_database, drop_database, run_apart
from tests.support.servers import HOME_VARIABLE, delete_topics, forget_outer_settings, shared_servers

PARTITIONS = 4
_run = uuid.uuid4().hex[:8]
_numbers = itertools.count(1)
_valkey_databases = itertools.cycle(random.sample(range(1, DATABASES), DATABASES - 1))
_ports: set[int] = set()
_for_workers = pytest.StashKey[ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    forget_outer_settings()
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        # Parallel workers share the stack of their controller.
        config.stash[_for_workers] = held = ExitStack()
        os.environ[HOME_VARIABLE] = str(held.enter_context(shared_servers()).home)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _for_workers in config.stash:
        config.stash[_for_workers].close()


@pytest.fixture(scope="session")
def stack() -> Iterator[Settings]:
    """Settings with the addresses of servers that run until the end of the session."""
    with shared_servers() as settings:
        yield settings


@pytest.fixture(scope="session")
def postgres_url(stack: Settings) -> str:
    """The server's default database: for making others."""
    return stack.require("postgres")


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated, empty database that nobody connects to."""
    name = f"template_{_run}"
    migrate(run_apart(create_database(postgres_url, name)))
    yield name
    run_apart(drop_database(postgres_url, name))


@pytest.fixture
async def database(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """The URL of a migrated, empty database of the test's own."""
    name = f"test_{_run}_{next(_numbers)}"
    yield await create_database(postgres_url, name, template_database)
    await drop_database(postgres_url, name)


@pytest.fixture
async def topic_prefix(stack: Settings) -> AsyncIterator[str]:
    """What the test's topics and groups begin with; the topics are deleted afterwards."""
    prefix = f"t{_run}{next(_numbers)}-"
    yield prefix
    await delete_topics(stack.require("kafka"), prefix)


@pytest.fixture
async def redis_url(stack: Settings) -> str:
    """The URL of an empty Valkey database."""
    url = stack.require("redis").rpartition("/")[0] + f"/{next(_valkey_databases)}"
    async with redis.asyncio.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture
def settings(stack: Settings, database: str, topic_prefix: str, redis_url: str, tmp_path: Path) -> Settings:
    """Everything of the test's own: database, topics (not made yet), cache, folder and free ports."""
    return load_settings(
        kafka=stack.require("kafka"),
        postgres=database,
        redis=redis_url,
        topic_prefix=topic_prefix,
        home=tmp_path,
        partitions=PARTITIONS,
        gateway=f"127.0.0.1:{free_port()}",
        emulator=f"127.0.0.1:{free_port()}",
    )


@pytest.fixture
async def applied_topics(settings: Settings) -> list[str]:
    """The topics of the registry, made under the test's prefix; their names."""
    return await apply_topics(settings)


def free_port() -> int:
    """A port that nobody listens on and that this run has not handed out before."""
    port = choose_port("a test", "nothing", 0, None, _ports)
    _ports.add(port)
    return port
