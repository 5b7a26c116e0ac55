"""Tokens as rules, as signed text and as a list in memory; nothing here needs a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import stat
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.token_key import FILE, signing_key
from gateway.access import StillGood, TokenEnded
from gateway.events import _stream
from gateway.signing import Signer, user_principal
from gateway.tokens import TokenBook
from models import tokens as rules
from models.access import Principal, Scope
from models.errors import BadSetting, SetupFailed, Unavailable, WrongUse
from models.tokens import StoredToken, checked_name, checked_scopes, checked_ttl_s, parts_of, principal_in, token_text
from streams.settings import load_settings

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = "k" * 40


def stored(number: int = 1, **changed: Any) -> tuple[str, StoredToken]:
    """A token's text and its row; the same number makes the same."""
    text, token_id, secret_hash = token_text(bytes([number] * 8), bytes([number] * 32))
    given = {"scopes": ("producer",), "name": "", "created_at": NOW} | changed
    return text, StoredToken(token_id, secret_hash, **given)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.s - 1000.0)


class Table:
    """What Postgres would have; counts how often it is asked."""

    def __init__(self, *rows: StoredToken) -> None:
        self.rows = {row.token_id: row for row in rows}
        self.reads = 0
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read(self) -> Mapping[str, StoredToken]:
        self.reads += 1
        rows = dict(self.rows)
        await self.may_answer.wait()
        if self.is_away:
            raise Unavailable("Postgres", "away")
        return rows


def book_of(table: Table, clock: Clock) -> TokenBook:
    return TokenBook(table.read, Signer(KEY, lambda: clock.now().timestamp()), clock, clock.now)


# The form of a token, and what it opens.


def test_a_token_has_a_form_of_its_own_and_its_secret_is_not_in_its_row() -> None:
    text, row = stored()
    parts = parts_of(text)
    assert parts is not None
    assert parts[0] == row.token_id
    assert len(base64.urlsafe_b64decode(parts[1] + "=")) == 32
    assert row.secret_hash == hashlib.sha256(parts[1].encode()).digest()
    assert parts[1] not in repr(row)


def test_a_live_token_is_its_holder_with_its_scopes() -> None:
    text, row = stored(scopes=("producer", "operator"))
    expected = Principal(row.token_id, frozenset({Scope.PRODUCER, Scope.OPERATOR}))
    assert principal_in({row.token_id: row}, text, NOW) == expected


def test_a_row_gives_nobody_the_scope_user() -> None:
    text, row = stored(scopes=("user", "dashboard", "root"))
    found = principal_in({row.token_id: row}, text, NOW)
    assert found is not None
    assert found.scopes == {Scope.DASHBOARD}


@pytest.mark.parametrize(
    "changed",
    [{"revoked_at": NOW}, {"expires_at": NOW}, {"expires_at": NOW - timedelta(seconds=1)}],
)
def test_a_token_that_is_over_opens_nothing(changed: dict[str, Any]) -> None:
    text, row = stored(**changed)
    assert principal_in({row.token_id: row}, text, NOW) is None


def test_a_token_that_ends_later_is_good() -> None:
    text, row = stored(expires_at=NOW + timedelta(seconds=1))
    assert principal_in({row.token_id: row}, text, NOW) is not None


def test_a_wrong_secret_opens_nothing() -> None:
    text, row = stored(1)
    other, _ = stored(2)
    forged = text[: -len("x" * 43)] + other[-43:]
    assert principal_in({row.token_id: row}, forged, NOW) is None


@pytest.mark.parametrize(
    "text",
    ["", "dr_", "dr__", "dr_0101010101010101_", "dr_0101010101010101_short", "DR_0101010101010101_" + "a" * 43,
     "dr_010101010101010_" + "a" * 43, "dr_010101010101010g_" + "a" * 43, "dr_0101010101010101_" + "a" * 44,
     "dr_0101010101010101_" + "a" * 43 + "\n", "dr_0101010101010101_" + "é" * 43, " dr_0101010101010101_" + "a" * 43,
     "dr_٠101010101010101_" + "a" * 43],
)  # fmt: skip
def test_what_has_another_form_is_no_stored_token(text: str) -> None:
    assert parts_of(text) is None
    assert principal_in({}, text, NOW) is None


def test_known_and_unknown_ids_are_both_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Spy:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(rules, "hmac", Spy)
    text, row = stored()
    assert principal_in({row.token_id: row}, text, NOW) is not None
    assert principal_in({}, text, NOW) is None
    assert [len(one) for pair in compared for one in pair] == [32] * 4


def test_what_nobody_has_hashed_is_what_an_unknown_id_is_compared_with() -> None:
    text, row = stored()
    assert row.secret_hash != bytes(32)
    assert principal_in({row.token_id: StoredToken(row.token_id, bytes(32), ("producer",), "", NOW)}, text, NOW) is None


def test_only_what_can_be_given_is_given() -> None:
    assert checked_scopes(["operator", "producer", "operator"]) == ("producer", "operator")
    for names in (["user"], ["root"], [], ["producer", ""]):
        with pytest.raises(WrongUse):
            checked_scopes(names)
    assert checked_name("the shop") == "the shop"
    for name in ("x" * 101, "a\nb", "\x1b[31m"):
        with pytest.raises(WrongUse):
            checked_name(name)
    assert [checked_ttl_s(ttl_s) for ttl_s in (None, 1, 86_400)] == [900, 1, 86_400]
    for ttl_s in (0, -1, 86_401):
        with pytest.raises(WrongUse):
            checked_ttl_s(ttl_s)


# Signed tokens.


def encoded(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256", **header: Any) -> str:
    """A signed token by hand, so that what makes them is not what tests them."""

    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    text = part({"typ": "JWT", "alg": algorithm, **header}) + "." + part(claims)
    digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}.get(algorithm)
    signature = hmac.digest(key.encode(), text.encode(), digest) if digest else b""
    return text + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


GOOD = {"sub": "u1", "aud": "darkroom", "iat": 1000, "exp": 1900}


def test_a_user_s_token_names_its_user_and_no_other_scope() -> None:
    clock = Clock()
    token, expires_at = Signer(KEY, clock).user_token("u1", 900)
    assert expires_at.timestamp() == 1900
    assert (
        Signer(KEY, clock).read_user_token(token)
        == user_principal("u1")
        == Principal("user:u1", frozenset({Scope.USER}), "u1")
    )


def test_a_user_s_token_can_be_made_by_others_with_the_key() -> None:
    assert Signer(KEY, Clock()).read_user_token(encoded(GOOD)) is not None


@pytest.mark.parametrize(
    "token",
    [encoded(GOOD, key="l" * 40), encoded(GOOD, algorithm="none"), encoded(GOOD, algorithm="None"),
     encoded(GOOD, algorithm="HS512"), encoded(GOOD, algorithm="HS384"), encoded(GOOD, algorithm="RS256"),
     encoded(GOOD | {"aud": "events"}), encoded(GOOD | {"aud": "other"}), encoded(GOOD | {"aud": ["darkroom"]}),
     encoded(GOOD | {"exp": 1000}), encoded(GOOD | {"exp": 1e300}), encoded(GOOD | {"exp": "1900"}),
     encoded(GOOD | {"iat": 1010}), encoded(GOOD | {"sub": "a b"}), encoded(GOOD | {"sub": ""}),
     encoded(GOOD | {"sub": 7}), encoded(GOOD | {"sub": "u" * 129}), encoded(GOOD)[:-1], encoded(GOOD) + "x",
     encoded(GOOD).rpartition(".")[0] + ".", encoded(GOOD, crit=["x"]), "a.b.c", "..", "\ud800.a.b", "x" * 3000,
     *(encoded({name: value for name, value in GOOD.items() if name != left_out}) for left_out in GOOD)],
)  # fmt: skip
def test_any_other_signed_token_is_nobody_s(token: str) -> None:
    signer = Signer(KEY, Clock())
    assert signer.read_user_token(encoded(GOOD)) is not None
    assert signer.read_user_token(token) is None


def test_a_signed_token_ends_by_the_clock() -> None:
    clock = Clock()
    signer = Signer(KEY, clock)
    token, _ = signer.user_token("u1", 10)
    clock.s += 9.9
    assert signer.read_user_token(token) is not None
    clock.s += 0.2
    assert signer.read_user_token(token) is None


def test_a_ticket_sees_what_its_holder_sees_for_a_minute_and_is_no_token() -> None:
    clock = Clock()
    signer = Signer(KEY, clock)
    for principal in (user_principal("u1"), Principal("0101010101010101", frozenset({Scope.DASHBOARD}))):
        ticket, expires_at = signer.ticket(principal)
        assert expires_at.timestamp() == clock.s + 60
        assert signer.read_ticket(ticket) == principal
        assert signer.read_user_token(ticket) is None
    token, _ = signer.user_token("u1", 900)
    assert signer.read_ticket(token) is None
    clock.s += 60
    assert signer.read_ticket(ticket) is None


@pytest.mark.parametrize("scopes", [None, "user", ["root"], [7], 7, [["user"]]])
def test_a_ticket_of_scopes_that_are_none_is_nobody_s(scopes: object) -> None:
    assert Signer(KEY, Clock()).read_ticket(encoded(GOOD | {"aud": "events", "scopes": scopes})) is None


# The list in memory.


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


# The key.


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "new"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: signing_key("", home), range(50)))
    assert len(keys) == 1
    assert len(keys.pop()) >= 32
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == [FILE]


def test_a_key_that_is_set_is_taken_and_none_is_made(tmp_path: Path) -> None:
    assert signing_key(KEY, tmp_path) == KEY
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_key_and_a_folder_that_is_none_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("short")
    with pytest.raises(BadSetting, match="DARKROOM_TOKEN_KEY"):
        signing_key("", tmp_path)
    with pytest.raises(SetupFailed, match="DARKROOM_TOKEN_KEY"):
        signing_key("", tmp_path / FILE / "below")


def test_settings_of_access_are_checked_and_the_key_is_not_shown() -> None:
    settings = load_settings(token_key=KEY, cors_origins="https://a.example, http://b.example:8080")
    assert settings.cors_origins == ("https://a.example", "http://b.example:8080")
    assert KEY not in str(settings.masked())
    for wrong in ({"token_key": "short"}, {"cors_origins": "a.example"}, {"cors_origins": "https://a.example/x"},
                  {"cors_origins": "ftp://a.example"}, {"token_requests_per_s": 0}):  # fmt: skip
        with pytest.raises(BadSetting) as caught:
            load_settings(**wrong)
        assert "short" not in str(caught.value)
