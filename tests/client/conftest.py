"""The same client over both wires, on one world: real servers, real admission and a real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from streams import DarkroomClient
from tests.client.serving import gateway_of, served
from tests.faults.conftest import world
from tests.faults.harness import World

__all__ = ["world"]

USERS = ("ada", "bob", "eve")
MakeClient = Callable[[], DarkroomClient]


@pytest.fixture(params=["kafka", "http"])
async def make_client(request: pytest.FixtureRequest, world: World) -> AsyncIterator[MakeClient]:
    """Makes clients of the world, over Kafka or over HTTP."""
    await world.open_accounts(USERS, 100)
    if request.param == "kafka":
        yield lambda: DarkroomClient(settings=world.settings)
        return
    async with served(gateway_of(world.settings)) as url:
        yield lambda: DarkroomClient(http=url, token="producer")


@pytest.fixture
async def client(make_client: MakeClient) -> AsyncIterator[DarkroomClient]:
    async with make_client() as made:
        yield made
