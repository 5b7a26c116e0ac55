"""Tokens as signed text, and the key that signs them; nothing here needs a server."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.token_key import FILE, signing_key
from gateway.signing import Signer, user_principal
from models.access import Principal, Scope
from models.errors import BadSetting, SetupFailed
from streams.settings import load_settings
from tests.gateway.token_scene import GOOD, KEY, Clock, encoded


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
