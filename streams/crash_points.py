"""Numbered places at which a test can kill the process, to show what a crash there leaves behind.

`DARKROOM_CRASH_AT=admit:2` kills at point 2 of that step when it is reached; `admit:2:5` at the fifth time;
`admit:2:p0.01` each time with that probability.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

_armed = os.environ.get("DARKROOM_CRASH_AT", "")
_reached: Counter[str] = Counter()


def crash_point(where: str, number: int) -> None:
    """Die here, like by kill -9, if a test has armed this point."""
    if not _armed:
        return
    for armed in _armed.split(","):
        name, _, rest = armed.partition(":")
        point, _, when = rest.partition(":")
        if name != where or point != str(number):
            continue
        _reached[armed] += 1
        by_chance = when.startswith("p") and random.random() < float(when[1:])  # noqa: S311
        if by_chance or (not when.startswith("p") and _reached[armed] == int(when or 1)):
            os.kill(os.getpid(), signal.SIGKILL)
