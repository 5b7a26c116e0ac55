"""What is done when a step is through, such as counting: never before, so nothing is counted that did not happen."""

from __future__ import annotations

from collections.abc import Callable


class Afterwards:
    """What a step wants done once its batch is committed, and once its outputs are published: counting, mostly.

    An attempt that is rolled back takes its wishes with it. A crash in between does too: the next owner publishes,
    but decides nothing again.
    """

    __slots__ = ("committed", "published")

    def __init__(self) -> None:
        self.committed: list[Callable[[], None]] = []
        self.published: list[Callable[[], None]] = []

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call once when the step is committed."""
        self.committed.append(call)

    def on_publish(self, call: Callable[[], None]) -> None:
        """Call once when the step's outputs are acked."""
        self.published.append(call)


class _Unheard(Afterwards):
    """For whoever applies a step by hand: nothing is done."""

    def on_commit(self, call: Callable[[], None]) -> None:
        return

    on_publish = on_commit


UNHEARD = _Unheard()
