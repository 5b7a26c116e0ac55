"""A world per test: a database of its own and an emulator that is quick."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from devstack.emulator.options import EmulatorOptions
from devstack.emulator.server import running_emulator
from tests.conftest import free_port
from tests.services.world import World, world_on
from tests.support.s3 import s3_server

QUICK = EmulatorOptions(
    latency_min_s=0.0,
    latency_max_s=0.1,
    training_latency_min_s=0.0,
    training_latency_max_s=0.1,
    long_side_px=96,
    retry_after_s=1,
    slow_answer_s=1.5,
    slow_download_s=1.5,
    late_webhook_s=0.5,
    webhook_timeout_s=1.0,
)


@pytest.fixture
def emulator_url() -> Iterator[str]:
    with running_emulator(QUICK) as url:
        yield url


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """An S3-compatible server with an empty bucket."""
    with s3_server(free_port()) as url:
        yield url


@pytest.fixture
async def world(database: str, emulator_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world_on(database, emulator_url, str(tmp_path / "blobs")) as made:
        yield made
