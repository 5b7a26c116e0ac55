"""`darkroom cache flush` as an operator and a program see it."""

from __future__ import annotations

import json

import pytest
import redis
from typer.testing import CliRunner, Result

from cli.main import build_app, run


def flush(redis_url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("DARKROOM_REDIS", redis_url)
    return CliRunner().invoke(build_app(), ["cache", "flush", *arguments])


def filled(redis_url: str, entries: int) -> redis.Redis:
    """A client of a server with so many cached balances and something else."""
    server = redis.Redis.from_url(redis_url)
    with server.pipeline() as pipeline:
        for number in range(entries):
            pipeline.hset(f"credits:user-{number}", mapping={"balance": 1, "version": 1, "unlimited": 0})
        pipeline.set("somebody-elses", "1")
        pipeline.execute()
    return server


def test_a_flush_drops_every_balance_and_nothing_else(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = filled(redis_url, 2_500)
    done = flush(redis_url, monkeypatch)
    assert (done.exit_code, done.output) == (0, "dropped 2500 cached balances\n")
    assert server.keys() == [b"somebody-elses"]
    assert json.loads(flush(redis_url, monkeypatch, "--json").output) == {"dropped": 0}


def test_a_flush_without_redis_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_REDIS", "redis://127.0.0.1:1/0")
    assert run(["cache", "flush"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("darkroom: Redis is not available")
    assert said.count("\n") == 1
