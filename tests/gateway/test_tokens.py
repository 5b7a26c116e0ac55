"""Tokens as rules; nothing here needs a server."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import Any

import pytest

from models import tokens as rules
from models.access import Principal, Scope
from models.errors import WrongUse
from models.tokens import StoredToken, checked_name, checked_scopes, checked_ttl_s, parts_of, principal_in
from tests.gateway.token_scene import NOW, stored


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
