"""What a reader takes for good can be decided, written and announced: no content breaks a step.

A worker buries single records that break their decision, and stops after many in a row; so it must not be in a
producer's power to send such a record. BAD_INPUT_SEED chooses the seed.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import asyncpg
import pytest

from agents.admit import AdmitStep
from agents.cancel import CancelStep
from agents.gallery import GalleryStep
from agents.generate import GenerateStep
from agents.grants import GrantsStep
from agents.settle import SettleStep
from models.outputs import check_sizes
from models.requests import Unreadable
from streams.delivery import Batch
from tests.faults.test_bad_input import READERS, mutated
from tests.unit.records import FakeRecord, request_value

GOOD_ONES = int(os.environ.get("BAD_INPUT_GOOD_ONES") or 100)
STEPS: dict[str, Any] = {
    "requested": AdmitStep(1),
    "granted": GrantsStep(1),
    "cancel_requested": CancelStep(1),
    "admitted": GenerateStep(),
    "updated": SettleStep(),
    "stored": GalleryStep("http://pictures/"),
}


async def decide(connection: Any, step: Any, record: FakeRecord) -> None:
    """As the delivery step does it."""
    inputs = [step.read(record)]
    state = await step.load(connection, 0, record.timestamp)
    decisions, _ = await step.apply(connection, Batch(0, [record], inputs, state, record.timestamp))
    check_sizes(step.render([record], inputs, decisions))


# The state that the request is found in matters to those that know of one.
CASES = [(name, "queued") for name in STEPS]
CASES += [(name, state) for name in ("cancel_requested", "updated", "stored") for state in ("running", "storing")]


@pytest.mark.parametrize(("name", "state"), CASES)
async def test_what_is_read_is_decided(database: str, name: str, state: str) -> None:
    seed = int(os.environ.get("BAD_INPUT_SEED") or random.randrange(1 << 30))
    print(f"BAD_INPUT_SEED={seed}")
    chance, step = random.Random(f"{seed}/{name}/{state}"), STEPS[name]
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "WITH entry AS (INSERT INTO ledger (user_id, amount, kind, reference_id, balance_after, version)"
            " VALUES ('u1', 999, 'bonus', 'g', 999, 1))"
            " INSERT INTO accounts (user_id, balance, version) VALUES ('u1', 999, 1)"
        )
        await decide(connection, STEPS["requested"], FakeRecord(request_value(operation="studio.images")))
        await connection.execute("UPDATE generations SET state = $1, prediction_id = 'p'", state)
        found: Counter[str] = Counter()
        while found["good"] < GOOD_ONES:
            key, value = mutated(chance, READERS[name])
            record = FakeRecord(value, key, offset=7, timestamp=2_000_000)
            if isinstance(step.read(record), Unreadable):
                found["unreadable"] += 1
                continue
            found["good"] += 1
            undone = connection.transaction()
            await undone.start()
            try:
                await decide(connection, step, record)
            except Exception as error:
                raise AssertionError(f"key {key!r}, value {(value or b'')[:3000]!r}: {error!r}") from error
            finally:
                await undone.rollback()
        assert found["unreadable"] > 0
    finally:
        await connection.close()
