from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import replicate

from devstack.emulator.options import EmulatorOptions
from devstack.emulator.server import running_emulator
from tests.emulator.helpers import Receiver, client_of, webhook_receiver

QUICK: dict[str, Any] = {
    "latency_min_s": 0.01,
    "latency_max_s": 0.05,
    "training_latency_min_s": 0.02,
    "training_latency_max_s": 0.05,
    "long_side_px": 256,
    "slow_answer_s": 0.4,
    "slow_download_s": 0.4,
    "late_webhook_s": 0.4,
    "webhook_backoff_s": 0.05,
    "retry_after_s": 1,
}


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The URL of an emulator that all tests share: they tell themselves apart by prompt and request id."""
    with running_emulator(EmulatorOptions(**QUICK)) as url:
        yield url


@pytest.fixture
def start() -> Iterator[Callable[..., str]]:
    """Starts an emulator of the test's own with other options; gives its URL."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(running_emulator(EmulatorOptions(**{**QUICK, **options})))


@pytest.fixture
def client(emulator: str) -> replicate.Client:
    return client_of(emulator)


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with webhook_receiver() as running:
        yield running
