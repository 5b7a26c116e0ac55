"""A world of topics and a database of the test's own."""

from __future__ import annotations

from tests.faults.conftest import world

__all__ = ["world"]
