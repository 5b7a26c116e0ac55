"""How far a projection is behind, by its events' own times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from models.errors import Fenced, Unavailable
from models.outputs import Output, Record
from models.topics import CREDITS
from streams.projection import Projection
from streams.publisher import Publisher
from tests.support.waiting import eventually
from tests.unit.records import FakeRecord


class Waiting:
    """A projector whose server is away until it is let go."""

    topic = CREDITS

    def __init__(self) -> None:
        self.tries = 0
        self.is_away = True

    async def project(self, records: Sequence[Record]) -> list[Output]:
        self.tries += 1
        if self.is_away:
            raise Unavailable("Redis", "it is away")
        return []


def records_of_age(*ages_s: float) -> list[Record]:
    now_s = time.time()
    return [
        FakeRecord(b"{}", offset=number, timestamp=int((now_s - age_s) * 1000)) for number, age_s in enumerate(ages_s)
    ]


async def test_the_oldest_event_is_that_of_the_batch_that_waits_and_none_once_it_is_applied() -> None:
    projector = Waiting()
    projection = Projection(projector, Publisher("nowhere:1", client_id="test"))
    assert projection.oldest_age_s() == 0.0
    waiting = [
        asyncio.create_task((await projection.open(partition, 0)).handle(records_of_age(*ages_s)))
        for partition, ages_s in enumerate([(5.0, 1.0), (30.0, 2.0)])
    ]
    await eventually(lambda: projector.tries >= 4)
    assert 30 <= projection.oldest_age_s() < 40
    projector.is_away = False
    assert await asyncio.gather(*waiting) == [2, 2]
    assert projection.oldest_age_s() == 0.0


async def test_a_batch_that_was_given_up_is_not_counted_as_waiting() -> None:
    projector = Waiting()
    projection = Projection(projector, Publisher("nowhere:1", client_id="test"))
    session = await projection.open(0, 0)
    waiting = asyncio.create_task(session.handle(records_of_age(5.0)))
    await eventually(lambda: projection.oldest_age_s() > 0)
    session.close()
    with pytest.raises(Fenced):
        await waiting
    assert projection.oldest_age_s() == 0.0


async def test_an_event_from_a_clock_ahead_of_ours_has_no_negative_age() -> None:
    projector = Waiting()
    projection = Projection(projector, Publisher("nowhere:1", client_id="test"))
    waiting = asyncio.create_task((await projection.open(0, 0)).handle(records_of_age(-60.0)))
    await eventually(lambda: projector.tries >= 1)
    assert projection.oldest_age_s() == 0.0
    projector.is_away = False
    await waiting
