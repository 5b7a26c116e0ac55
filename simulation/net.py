"""Processes and the way between them and the servers: what takes time, and what a crash or a pause cuts off.

Whatever code does between two hops happens at once, so a fault can strike at every await and nowhere else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from simulation.loop import Stalled


class Process:
    """One process: alive, paused (it will go on, later, knowing nothing of it), or dead for good."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name = name
        self.dice = dice
        self.dead = False
        self.closed = False
        """The run is over: whatever is still under way ends at once."""
        self.slowness_s = 0.004
        self.traps: list[tuple[int, Callable[[], None]]] = []
        """What springs within a transaction, after so many more of its statements."""
        self._thaw: asyncio.Event | None = None

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._thaw is not None

    def pause(self) -> None:
        """Stand still at the next hop."""
        if self._thaw is None:
            self._thaw = asyncio.Event()

    def resume(self) -> None:
        """Go on."""
        if self._thaw is not None:
            self._thaw.set()
            self._thaw = None

    def kill(self) -> None:
        """Nothing of it ever happens again: like kill -9."""
        self.dead = True
        self.resume()

    def step_on_trap(self) -> None:
        """A statement within a transaction was carried out."""
        if self.traps:
            left, spring = self.traps[0]
            if left > 0:
                self.traps[0] = (left - 1, spring)
            else:
                del self.traps[0]
                spring()

    async def hop(self) -> None:
        """One way between the process and a server."""
        if not self.closed:
            await asyncio.sleep(self.dice.random() * self.slowness_s)
        await self.settle()

    async def settle(self) -> None:
        """Stay here while paused, for ever if dead."""
        if self.closed:
            raise asyncio.CancelledError
        while self._thaw is not None and not self.dead:
            await self._thaw.wait()
        if self.dead:
            await asyncio.get_running_loop().create_future()
            raise Stalled("unreachable")
