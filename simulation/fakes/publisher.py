"""The production publisher over the in-memory producer."""

from __future__ import annotations

from typing import Any

from simulation.fakes.kafka import Broker, FakeProducer
from simulation.net import Process
from streams.publisher import Publisher


class SimulatedPublisher(Publisher):
    """All of the publisher's own code; only the client below it is another."""

    def __init__(self, broker: Broker, process: Process) -> None:
        super().__init__("in-memory", client_id=process.name)
        self._fake = FakeProducer(broker, process)

    async def _started(self) -> Any:
        return self._fake
