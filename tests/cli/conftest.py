"""Books made once by the real steps and copied for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.cli.books import write_clean_books
from tests.support.databases import create_database, drop_database, run_apart

_numbers = itertools.count()


@pytest.fixture(scope="session")
def clean_books(postgres_url: str, template_database: str) -> Iterator[str]:
    """The name of a database with clean books, to be used as a template only."""
    # The folders that use it each have one.
    name = f"clean_books_{os.getpid()}_{next(_numbers)}"
    run_apart(_write(postgres_url, name, template_database))
    yield name
    run_apart(drop_database(postgres_url, name))


@pytest.fixture
async def books_url(postgres_url: str, clean_books: str) -> AsyncIterator[str]:
    """A database of the test's own that begins with clean books."""
    name = f"books_{os.getpid()}_{next(_numbers)}"
    yield await create_database(postgres_url, name, clean_books)
    await drop_database(postgres_url, name)


async def _write(postgres_url: str, name: str, template: str) -> None:
    connection = await asyncpg.connect(await create_database(postgres_url, name, template))
    await write_clean_books(connection)
    await connection.close()
