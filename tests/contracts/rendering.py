"""Every event that our code produces, rendered by its own renderers from fixed inputs, with what it means."""

from __future__ import annotations

from tests.contracts.fixed import Case
from tests.contracts.rendering_asked import admission_answers, booking, produced
from tests.contracts.rendering_done import endings, services


def all_cases() -> list[Case]:
    """In a fixed order; topic and name tell them apart."""
    return [case for group in (produced, admission_answers, booking, services, endings) for case in group()]
