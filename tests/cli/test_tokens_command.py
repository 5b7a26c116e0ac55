"""`darkroom tokens` as a person and a program see it, and that a gateway believes what it makes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

import pytest

from adapters.postgres import close_pool, open_pool
from adapters.token_key import signing_key
from adapters.tokens import live_tokens
from cli import main
from gateway.signing import Signer, user_principal
from gateway.tokens import TokenBook
from models.access import Principal, Scope
from streams.settings import Settings, variable_of

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name in ("kafka", "postgres", "redis", "home"):
        monkeypatch.setenv(variable_of(name), str(getattr(settings, name)))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["tokens", *arguments])
        output, errors = capsys.readouterr()
        return code, output, errors

    return call


def holder_of(settings: Settings, token: str) -> Principal | None:
    """Who a gateway that has just started says it is."""

    async def ask() -> Principal | None:
        pool = await open_pool(settings.require("postgres"), size_max=1, application="test")
        book = TokenBook(lambda: live_tokens(pool), Signer(signing_key("", settings.home)))
        try:
            return await book.principal_of(token)
        finally:
            await close_pool(pool)

    return asyncio.run(ask())


def test_the_last_line_is_the_token_which_is_never_shown_again(command: Command, settings: Settings) -> None:
    code, output, errors = command("create", "--scope", "producer", "--scope", "operator", "--name", "the shop")
    assert code == 0, errors
    token = output.splitlines()[-1]
    match = re.fullmatch(r"dr_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", token)
    assert match is not None
    holder = holder_of(settings, token)
    assert holder == Principal(match[1], frozenset({Scope.PRODUCER, Scope.OPERATOR}))
    code, output, _ = command("list", "--json")
    (listed,) = json.loads(output)
    assert listed.pop("created_at").endswith("Z")
    assert listed == {
        "token_id": match[1], "scopes": ["producer", "operator"], "name": "the shop",
        "expires_at": None, "revoked_at": None,
    }  # fmt: skip
    plain = command("list")[1]
    assert match[1] in plain
    assert "the shop" in plain
    assert match[2] not in output + plain


def test_a_revoked_token_opens_nothing_and_stays_in_the_list(command: Command, settings: Settings) -> None:
    assert "no tokens" in command("list")[1]
    token = command("create", "--scope", "dashboard")[1].splitlines()[-1]
    token_id = token.split("_")[1]
    assert holder_of(settings, token) is not None
    assert command("revoke", token_id)[0] == 0
    assert holder_of(settings, token) is None
    assert json.loads(command("list", "--json")[1])[0]["revoked_at"]
    assert "revoked" in command("list")[1]
    assert command("revoke", token_id)[0] == 0


def test_a_user_s_token_is_that_user_s_and_no_row(command: Command, settings: Settings) -> None:
    code, output, errors = command("user", "ada", "--ttl", "60")
    assert code == 0, errors
    token = output.splitlines()[-1]
    assert holder_of(settings, token) == user_principal("ada")
    assert json.loads(command("list", "--json")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [(("create",), 2, "at least one scope"), (("create", "--scope", "root"), 2, "no scope 'root'"),
     (("create", "--scope", "user"), 2, "no scope 'user'"),
     (("create", "--scope", "producer", "--name", "x" * 101), 2, "name: "),
     (("revoke", "0000000000000000"), 1, "there is no token"), (("revoke", "a b"), 1, "there is no token"),
     (("revoke", "dr_x_y"), 2, "not the token"), (("user", "a b"), 2, "USER: "),
     (("user", "ada", "--ttl", "0"), 2, "ttl_s: "), (("user", "ada", "--ttl", "86401"), 2, "ttl_s: ")],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(command: Command, arguments: tuple[str, ...], code: int, says: str) -> None:
    found, output, errors = command(*arguments)
    assert (found, output) == (code, "")
    assert says in errors
    assert errors.count("\n") == 1
    assert json.loads(command("list", "--json")[1]) == []
