"""The gateway's documents for machines."""

from __future__ import annotations

import msgspec

from models.asyncapi import document
from streams.settings import Settings

from .conftest import client_of


async def test_the_events_are_described_with_the_deployment_s_partitions(offline_settings: Settings) -> None:
    """To anybody: who is to write a client has no token yet."""
    async with client_of(offline_settings.model_copy(update={"partitions": 3})) as client:
        answers = [await client.get("/asyncapi.json") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert (answers[0].status_code, answers[0].headers["content-type"]) == (200, "application/json")
    assert answers[0].json() == msgspec.json.decode(msgspec.json.encode(document(3)))
    partitions = {channel["bindings"]["kafka"]["partitions"] for channel in answers[0].json()["channels"].values()}
    assert partitions == {3}
