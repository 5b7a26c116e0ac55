"""Tokens as a list in memory, and what goes on for as long as one is good; nothing here needs a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.access import StillGood, TokenEnded
from gateway.events import _stream
from gateway.signing import Signer, user_principal
from gateway.tokens import TokenBook
from models.access import Principal, Scope
from models.errors import Unavailable
from models.tokens import StoredToken, token_text
from tests.gateway.token_scene import GOOD, KEY, NOW, Clock, Table, book_of, encoded, stored


async def test_a_thousand_made_up_tokens_cost_one_reading() -> None:
    text, row = stored()
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    made_up = [token_text(number.to_bytes(8), bytes(32))[0] for number in range(1000)]
    found = await asyncio.gather(*(book.principal_of(token) for token in made_up), book.principal_of(text))
    assert found[:-1] == [None] * 1000
    assert found[-1] is not None
    assert table.reads == 1
    for token in made_up:
        assert await book.principal_of(token) is None
    assert table.reads == 1


async def test_made_up_tokens_cost_at_most_two_readings_a_second() -> None:
    table, clock = Table(), Clock()
    book = book_of(table, clock)
    for number in range(1000):
        clock.s += 0.01
        assert await book.principal_of(token_text(number.to_bytes(8), bytes(32))[0]) is None
    assert 10 <= table.reads <= 21


async def test_what_has_no_token_s_form_costs_no_reading() -> None:
    table = Table()
    book = book_of(table, Clock())
    for text in ("", "x", "dr_x_y", "a.b.c", "dr_" + "x" * 5000, encoded(GOOD, key="l" * 40)):
        assert await book.principal_of(text) is None
        assert await book.principal_of_ticket(text) is None
    assert table.reads == 0


async def test_a_token_in_use_is_looked_up_at_most_every_two_seconds() -> None:
    text, row = stored()
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    for _ in range(1000):
        clock.s += 0.01
        assert await book.principal_of(text) is not None
        await asyncio.sleep(0)
    assert 4 <= table.reads <= 6


async def test_a_revoked_token_is_refused_within_a_few_seconds_and_at_once_after_a_pause() -> None:
    text, row = stored()
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    assert await book.principal_of(text) is not None
    table.rows.clear()
    clock.s += 2.1
    await book.principal_of(text)
    await asyncio.sleep(0)
    assert await book.principal_of(text) is None
    table.rows[row.token_id] = row
    clock.s += 0.6
    assert await book.principal_of(text) is not None
    table.rows.clear()
    clock.s += 3600
    assert await book.principal_of(text) is None


async def test_a_token_that_ends_between_readings_ends() -> None:
    text, row = stored(expires_at=NOW + timedelta(seconds=1))
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    assert await book.principal_of(text) is not None
    clock.s += 1.0
    assert await book.principal_of(text) is None
    assert table.reads == 1


async def test_while_postgres_is_away_the_last_list_holds_for_a_minute() -> None:
    text, row = stored()
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    assert await book.principal_of(text) is not None
    table.is_away = True
    for _ in range(590):
        clock.s += 0.1
        assert await book.principal_of(text) is not None
        await asyncio.sleep(0)
    assert table.reads <= 31
    clock.s += 2.0
    for _ in range(5):
        with pytest.raises(Unavailable):
            await book.principal_of(text)
    table.is_away = False
    clock.s += 2.1
    assert await book.principal_of(text) is not None


async def test_a_postgres_that_was_never_there_is_asked_again_only_now_and_then() -> None:
    text, _ = stored()
    table, clock = Table(), Clock()
    table.is_away = True
    book = book_of(table, clock)
    for _ in range(100):
        with pytest.raises(Unavailable):
            await book.principal_of(text)
    assert table.reads == 1


async def test_nobody_waits_for_a_postgres_that_hangs_once_it_is_known_to() -> None:
    text, row = stored()
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    assert await book.principal_of(text) is not None
    table.is_away = True
    clock.s += 10
    assert await book.principal_of(text) is not None
    table.may_answer.clear()
    clock.s += 3
    assert await asyncio.wait_for(book.principal_of(text), 5) is not None
    assert await asyncio.wait_for(book.principal_of(stored(2)[0]), 5) is None
    table.may_answer.set()
    await asyncio.sleep(0)


async def test_who_gives_up_waiting_ends_no_reading_of_others() -> None:
    text, row = stored()
    table = Table(row)
    table.may_answer.clear()
    book = book_of(table, Clock())
    first = asyncio.create_task(book.principal_of(text))
    second = asyncio.create_task(book.principal_of(text))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    table.may_answer.set()
    assert await second is not None
    assert table.reads == 1


async def test_a_table_that_cannot_be_read_is_unavailable_and_not_a_bug() -> None:
    async def broken() -> Mapping[str, StoredToken]:
        raise RuntimeError("relation does not exist")

    book = TokenBook(broken, Signer(KEY))
    with pytest.raises(Unavailable):
        await book.principal_of(stored()[0])


async def test_what_was_made_with_a_token_ends_with_it() -> None:
    _, row = stored()
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    user, _ = book.signer.user_token("u1", 900, via=row.token_id)
    ticket, _ = book.signer.ticket(Principal(row.token_id, frozenset({Scope.PRODUCER})))
    assert await book.principal_of(user) == user_principal("u1")
    assert await book.principal_of_ticket(ticket) is not None
    table.rows.clear()
    clock.s += 5
    assert await book.principal_of(user) is None
    assert await book.principal_of_ticket(ticket) is None


async def test_what_goes_on_for_long_ends_with_its_token() -> None:
    _, row = stored()
    table, clock = Table(row), Clock()
    book = book_of(table, clock)
    holder = Principal(row.token_id, frozenset({Scope.PRODUCER}))
    users = [await book.principal_of(book.signer.user_token("u1", ttl_s)[0]) for ttl_s in (20, 900)]
    made = await book.principal_of(book.signer.user_token("u1", 900, via=row.token_id)[0])
    principals = [holder, *users, made]
    assert None not in principals
    principals += [await book.principal_of_ticket(book.signer.ticket(one)[0]) for one in principals if one]
    checks = [StillGood(book, principal, 5.0, clock) for principal in principals if principal]
    assert len(checks) == 8

    async def ended() -> list[bool]:
        found = []
        for check in checks:
            try:
                await check.check()
                found.append(False)
            except TokenEnded:
                found.append(True)
        return found

    assert await ended() == [False] * 8
    clock.s += 6
    assert await ended() == [False] * 8
    table.is_away = True
    clock.s += 65
    assert await ended() == [False, True, False, False] * 2
    table.is_away = False
    table.rows.clear()
    clock.s += 6
    assert await ended() == [True, True, False, True] * 2


async def test_a_stream_shows_nothing_more_once_its_token_is_revoked() -> None:
    _, row = stored()
    table, clock = Table(row), Clock()
    access = StillGood(book_of(table, clock), Principal(row.token_id, frozenset({Scope.DASHBOARD})), 5.0, clock)
    event: Any = SimpleNamespace(topic="generations.rejected.v1", document=b"{}")

    async def followed() -> AsyncIterator[tuple[Any, str]]:
        yield event, "p1"
        table.rows.clear()
        clock.s += 6
        yield event, "p2"

    said = b"".join([part async for part in _stream(followed(), access)])
    assert b"id: p1" in said
    assert b"id: p2" not in said
    assert b"event: bye" in said
    assert b"token_ended" in said
