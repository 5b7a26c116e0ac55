"""From a query's text to what it does here, and rows that can be read by position and by name, like asyncpg's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, SupportsIndex

from adapters.queries import load_queries
from simulation.fakes.tables import Row, Transaction

Statement = Callable[..., Awaitable[list[Any]]]

_by_text: dict[str, Statement] = {}
COPY_DEFAULTS: dict[str, Callable[[Transaction, Row], Row]] = {}
"""By table: a copied row with its other columns at their defaults."""


class Record(tuple[Any, ...]):
    """A result row."""

    names: tuple[str, ...] = ()

    def __getitem__(self, wanted: SupportsIndex | slice | str) -> Any:
        """By position or by name."""
        if isinstance(wanted, str):
            return super().__getitem__(self.names.index(wanted))
        return super().__getitem__(wanted)


def record_of(*names: str) -> Callable[..., Record]:
    """Makes rows with these columns."""
    kind = type("NamedRecord", (Record,), {"names": names})
    return lambda *values: kind(values)


def statement(room: str, name: str) -> Callable[[Statement], Statement]:
    """Register what a named query does."""
    text = load_queries(room)[name]

    def register(function: Statement) -> Statement:
        _by_text[text] = function
        return function

    return register


def statement_of(query: str) -> Statement:
    """What the query with this text does. Raises KeyError: nobody has said."""
    return _by_text[query]
