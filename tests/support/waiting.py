"""Waiting for a condition instead of a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    timeout_s: float = 10.0,
    message: str = "the condition did not come true",
) -> T:
    """Return the first true value of the condition, plain or awaitable; an assertion in it counts as not yet true.

    Raises AssertionError with the message and what was seen last.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen: object
        try:
            value = condition()
            seen = await value if inspect.isawaitable(value) else value
            if seen:
                return seen  # type: ignore[return-value]
        except AssertionError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{message} within {timeout_s} s; last seen: {seen!r}")
        await asyncio.sleep(POLL_S)


def wait_until(
    condition: Callable[[], T], timeout_s: float = 10.0, message: str = "the condition did not come true"
) -> T:
    """`eventually` for tests that are not async."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen: object
        try:
            seen = condition()
            if seen:
                return seen  # type: ignore[return-value]
        except AssertionError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{message} within {timeout_s} s; last seen: {seen!r}")
        time.sleep(POLL_S)
