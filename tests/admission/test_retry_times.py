"""What a refusal says of the future comes true, to the millisecond of the broker's clock."""

from __future__ import annotations

import asyncio
import json
import time

from models.topics import ADMITTED, REJECTED, REQUESTED
from streams.limit_levers import change_limits
from tests.admission.scene import fund
from tests.faults.harness import World, request

WINDOW_MS = 1000
NEAR_MS = 100


async def test_a_retry_just_after_the_told_moment_succeeds_and_one_just_before_is_refused(world: World) -> None:
    await fund(world, ["u"], 100)
    await change_limits(world.settings, "maya.image", {"limit": 2, "window_s": 1})
    await world.start().ready()
    # Trying all the time, so that there are retries close to every told moment on both sides.
    until, number = time.monotonic() + 4.5, 0
    while time.monotonic() < until:
        await world.produce(REQUESTED, [request(f"r{number}", "u")])
        number += 1
        await asyncio.sleep(0.004)
    await world.until_acked("admission", REQUESTED)

    at_ms = {json.loads(record.value)["request_id"]: record.timestamp for record in await world.read(REQUESTED)}
    admitted = [at_ms[json.loads(record.value)["request_id"]] for record in await world.read(ADMITTED)]
    refused = [json.loads(record.value) for record in await world.read(REJECTED)]
    told = [(at_ms[refusal["request_id"]], round(refusal["retry_after_s"] * 1000)) for refusal in refused]
    assert len(admitted) >= 8
    for refused_ms, retry_ms in told:
        free_ms = refused_ms + retry_ms
        inside = [moment for moment in admitted if refused_ms - WINDOW_MS < moment <= refused_ms]
        assert len(inside) == 2
        assert free_ms == min(inside) + WINDOW_MS, "the told moment is when the oldest admission leaves the window"
    moments = sorted({refused_ms + retry_ms for refused_ms, retry_ms in told if refused_ms + retry_ms < max(admitted)})
    tried_close = 0
    for free_ms in moments:
        after = [moment for moment in at_ms.values() if free_ms <= moment]
        assert min(after) in admitted, "the first retry at or after the told moment was refused"
        before_ms = max(refused_ms for refused_ms, _ in told if refused_ms < free_ms)
        tried_close += free_ms - before_ms < NEAR_MS and min(after) - free_ms < NEAR_MS
    assert tried_close >= 3, "no retries close enough to the told moments"
