"""Python's search for cycles, made rare: what a request or a batch makes dies young, and without cycles."""

from __future__ import annotations

import gc


def tame_garbage_collector() -> None:
    """Call once, when all that stays has been made: it is not looked at again, and the rest seldom. At Python's default
    thresholds the search took a third of the admission worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
