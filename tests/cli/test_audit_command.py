"""`darkroom audit` as an operator and a program see it."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest
import typer
from typer.testing import CliRunner, Result

from cli import audit
from models.audit import INVARIANTS


def run_audit_command(books_url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("DARKROOM_POSTGRES", books_url)
    app = typer.Typer()
    audit.register(app)
    return CliRunner().invoke(app, ["--books-only", *arguments])


def break_books(books_url: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(books_url)
        await connection.execute("UPDATE accounts SET balance = balance + 1 WHERE user_id = 'dora'")
        await connection.close()

    asyncio.run(execute())


def test_clean_books_exit_with_0_and_name_every_invariant(books_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_audit_command(books_url, monkeypatch)
    assert done.exit_code == 0, done.output
    assert [name for name in INVARIANTS if name not in done.output] == []


def test_json_holds_the_count_of_every_invariant(books_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_audit_command(books_url, monkeypatch, "--json")
    assert done.exit_code == 0
    document = json.loads(done.output)
    assert (document["violations"], document["invariants"]) == (0, dict.fromkeys(INVARIANTS, 0))


def test_wrong_books_exit_with_1_and_name_a_user(books_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_books(books_url)
    done = run_audit_command(books_url, monkeypatch, "--json")
    assert done.exit_code == 1
    document = json.loads(done.output)
    assert document["violations"] == 1
    assert document["examples"] == {"balance_is_sum_of_ledger": "dora"}
    assert run_audit_command(books_url, monkeypatch).exit_code == 1
