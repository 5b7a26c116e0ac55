"""A world per test: topics and a database of its own, and no process left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.settings import Settings
from streams.topics import apply_topics
from tests.faults.harness import World


@pytest.fixture
async def world(settings: Settings, tmp_path: Path) -> AsyncIterator[World]:
    """Topics are applied; nothing runs yet."""
    await apply_topics(settings)
    made = World(settings, tmp_path)
    try:
        yield made
    finally:
        await made.close()
