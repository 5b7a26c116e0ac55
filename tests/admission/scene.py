"""What tests of admission ask a world: answers by request, metrics of a worker, clean books."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.request import urlopen

from adapters.audit import audit
from models.accounts import Cause, CreditsChanged, credits_changed
from models.outputs import EventStamp
from models.topics import ADMITTED, CREDITS, REJECTED, REQUESTED
from streams.event_audit import audit_events
from streams.partitioning import partition_of
from streams.publisher import Publisher
from tests.faults.harness import Worker, World, request
from tests.support.waiting import eventually


async def fund(world: World, users: Sequence[str], amount: int) -> None:
    """Give credits before any worker runs: the entries, and the events that go with them."""
    await world.open_accounts(users, amount)
    stamp = EventStamp(CREDITS, "grants")
    publisher = Publisher(world.settings.require("kafka"), client_id="fund", topic_prefix=world.settings.topic_prefix)
    try:
        for user in users:
            event = CreditsChanged(user, amount, 1, False, Cause("bonus", f"g-{user}", amount))
            place = partition_of(user, world.settings.partitions)
            await publisher.publish(place, [credits_changed(stamp, user.encode(), event)])
    finally:
        await publisher.close()


async def ask(world: World, *rows: tuple[str, bytes], timeout_s: float = 20.0) -> list[dict[str, Any]]:
    """Send requests and return their answers in order: the event's body with `outcome` and broker time `at_ms`."""
    sent = [_identity(json.loads(value)) for _, value in rows]
    before = Counter(map(_identity, await answers(world)))
    await world.produce(REQUESTED, rows)

    async def all_answered() -> list[dict[str, Any]] | None:
        found = await answers(world)
        left = Counter(before) + Counter(sent) - Counter(map(_identity, found))
        return None if left else found

    found = await eventually(all_answered, timeout_s, f"not every request was answered; {world.tails()}")
    latest = {_identity(answer): answer for answer in sorted(found, key=lambda answer: answer["at_ms"])}
    return [latest[identity] for identity in sent]


def _identity(body: dict[str, Any]) -> tuple[str, str]:
    return body["user_id"], body["request_id"]


async def answers(world: World) -> list[dict[str, Any]]:
    """Every answer so far."""
    return [
        json.loads(record.value) | {"outcome": outcome, "at_ms": record.timestamp}
        for topic, outcome in ((ADMITTED, "admitted"), (REJECTED, "rejected"))
        for record in await world.read(topic)
    ]


def outcomes(found: list[dict[str, Any]]) -> list[str]:
    """`admitted`, or the reason of the refusal."""
    return [answer.get("reason", "admitted") for answer in found]


def requests(user_id: str, count: int, start: int = 0, **fields: object) -> list[tuple[str, bytes]]:
    """So many requests of one user, with ids of their own."""
    return [request(f"{user_id}-{number}", user_id, **fields) for number in range(start, start + count)]


def metric(worker: Worker, name: str, **labels: str) -> float:
    """One sample of the worker's /metrics; 0 when there is none yet."""
    address = re.search(r"health on (\S+)", worker.output())
    assert address is not None, worker.output()
    with urlopen(f"{address[1]}/metrics", timeout=5) as response:
        text = response.read().decode()
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    found = re.search(rf"^{re.escape(name + '{' + wanted + '}')} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def assert_clean(world: World) -> None:
    """The books have no violation, and neither have the events."""
    findings = (await audit(world.settings.require("postgres"))).and_also(await audit_events(world.settings))
    assert findings.violations == 0, findings.examples
