"""The process that outlives its parent just long enough to stop what the parent started.

Run by path with nothing but the standard library: `python -I -S guard.py GRACE_S`. It reads lines from its
standard input, a pipe whose write end only the parent holds:

    + PID SIGNAL NAME     a child exists; SIGNAL (a number) asks it to stop
    - PID                 the parent has reaped that child
    release               the children are meant to live on

When the pipe ends, for whatever reason, every child that is left is stopped in reverse order of start: SIGNAL to
all, then KILL to the whole process group after GRACE_S seconds.
"""

import contextlib
import os
import signal
import sys
import time


def watch(lines) -> dict[int, int]:  # type: ignore[no-untyped-def]
    """Children left when the lines end: pid -> signal."""
    left: dict[int, int] = {}
    for line in lines:
        word, *rest = line.split()
        if word == "+":
            left[int(rest[0])] = int(rest[1])
        elif word == "-":
            left.pop(int(rest[0]), None)
        elif word == "release":
            left.clear()
    return left


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 (pathlib would cost a third of the start time)
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def stop(left: dict[int, int], grace_s: float) -> None:
    for pid, number in reversed(left.items()):
        with contextlib.suppress(OSError):
            os.kill(pid, number)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(is_running(pid) for pid in left):
        time.sleep(0.02)
    for pid in left:
        if is_running(pid):
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    # Ctrl-C and a closed terminal go to the parent; the guard must still be there when the parent is gone.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    stop(watch(sys.stdin), float(sys.argv[1]))
