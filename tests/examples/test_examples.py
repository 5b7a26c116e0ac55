"""The five examples, run as a person would run them, against one whole system of real servers, workers and gateway."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from adapters.postgres import close_pool, open_pool
from adapters.tokens import create_token
from cli.children import environment_of
from cli.demo_system import running_system
from streams.settings import Settings, load_settings
from tests.conftest import PARTITIONS, free_port
from tests.support.databases import create_database, drop_database, run_apart
from tests.support.servers import delete_topics
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT_S = 150
LINES_MAX = 60


@pytest.fixture(scope="module")
def system(
    stack: Settings, postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Everything that runs in production, with a database and topics of its own."""
    name = f"examples_{uuid.uuid4().hex[:8]}"
    settings = load_settings(
        kafka=stack.require("kafka"),
        postgres=run_apart(create_database(postgres_url, name, template_database)),
        redis=stack.require("redis"),
        topic_prefix=f"{name}-",
        home=tmp_path_factory.mktemp("examples"),
        partitions=PARTITIONS,
        gateway=f"127.0.0.1:{free_port()}",
        emulator=f"127.0.0.1:{free_port()}",
    )
    with running_system(settings, lambda line: None) as running:
        yield running.settings
    run_apart(drop_database(postgres_url, name))
    run_apart(delete_topics(settings.require("kafka"), settings.topic_prefix))


@pytest.fixture(scope="module")
def environment(system: Settings) -> dict[str, str]:
    """What the examples read, and nothing else of Darkroom."""
    wanted = {"DARKROOM_KAFKA", "DARKROOM_TOPIC_PREFIX", "DARKROOM_GATEWAY"}
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "REPLICATE_"))}
    own = {name: value for name, value in environment_of(system).items() if name in wanted}
    return outer | own | {"DARKROOM_TOKEN": run_apart(_token(system))}


async def _token(system: Settings) -> str:
    pool = await open_pool(system.require("postgres"), size_max=1, application="tests")
    try:
        return (await create_token(pool, ["producer"]))[0]
    finally:
        await close_pool(pool)


def run(name: str, *arguments: str, env: dict[str, str], fails: bool = False) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if fails else 0), done.stdout + done.stderr
    return done.stdout


def value(system: Settings, sql: str, *arguments: str) -> int:
    """One number from the database; 0 for none."""

    async def fetch() -> int:
        held = await asyncpg.connect(system.require("postgres"))
        try:
            return int(await held.fetchval(sql, *arguments) or 0)
        finally:
            await held.close()

    return run_apart(fetch())


def balance(system: Settings, user_id: str) -> int:
    return value(system, "SELECT balance FROM accounts WHERE user_id = $1", user_id)


def fund(system: Settings, env: dict[str, str], user_id: str, credits: int) -> None:
    """By the example, which sends each grant twice."""
    run("grant_on_purchase.py", f"{user_id}-1", user_id, str(credits), env=env)
    wait_until(lambda: balance(system, user_id) >= credits, 60, "the grant was not booked")


def test_a_purchase_is_booked_once_although_the_shop_says_it_twice(
    system: Settings, environment: dict[str, str]
) -> None:
    said = run("grant_on_purchase.py", "77", "mara", "20", env=environment)
    assert said.count("order-77") == 2
    run("grant_on_purchase.py", "78", "mara", "1", env=environment)
    wait_until(lambda: balance(system, "mara") >= 21, 60, "the grants were not booked")
    assert balance(system, "mara") == 21
    assert "not given" in run("grant_on_purchase.py", "79", "mara", "-5", env=environment, fails=True)


def test_the_producer_gets_pictures_or_is_told_why_not(system: Settings, environment: dict[str, str]) -> None:
    assert "insufficient_credits" in run("producer.py", "poor", "a boat", env=environment, fails=True)
    assert "prompt" in run("producer.py", "poor", "", env=environment, fails=True)
    fund(system, environment, "ada", 20)
    said = run("producer.py", "ada", "a boat at dawn", env=environment)
    assert "admitted" in said
    assert re.search(r"http://\S+  \d+x\d+", said)


def test_the_http_client_gets_the_same(system: Settings, environment: dict[str, str]) -> None:
    assert "insufficient_credits" in run("http_client.py", "poor", "a boat", env=environment, fails=True)
    fund(system, environment, "bob", 20)
    assert re.search(r"http://\S+  \d+x\d+", run("http_client.py", "bob", "a boat at dawn", env=environment))


def test_another_kafka_client_lands_in_the_user_s_partition(system: Settings, environment: dict[str, str]) -> None:
    fund(system, environment, "eve", 20)
    said = run("confluent_producer.py", "eve", "a boat at dawn", env=environment)
    request_id = said.split()[0]
    completed = "SELECT count(*) FROM generations WHERE user_id = 'eve' AND request_id = $1 AND state = 'completed'"
    wait_until(lambda: value(system, completed, request_id), 90, "it was not completed")
    assert value(system, "SELECT partition FROM generations WHERE request_id = $1", request_id) == int(
        re.findall(r"partition (\d+)", said)[0]
    )


def test_the_dashboard_goes_on_where_it_stopped(system: Settings, environment: dict[str, str], tmp_path: Path) -> None:
    fund(system, environment, "kim", 20)
    fund(system, environment, "lou", 20)
    state = tmp_path / "position"

    def seen() -> bool:
        run("producer.py", "kim", "a boat", env=environment)
        return " kim " in (tmp_path / "first").read_text()

    with dashboard(tmp_path / "first", state, environment):
        wait_until(seen, 120, "the dashboard shows nothing")
    run("producer.py", "lou", "while nobody looked", env=environment)
    with dashboard(tmp_path / "second", state, environment):
        wait_until(lambda: " lou " in (tmp_path / "second").read_text(), 60, "what came in between is missing")


@contextmanager
def dashboard(out: Path, state: Path, env: dict[str, str]) -> Iterator[None]:
    """The dashboard while it runs; ended by Ctrl-C, as a person would."""
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "dashboard.py"), str(state)], env=env, cwd=ROOT, stdout=file, stderr=file
        )
    try:
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, out.read_text()
        assert "stopped" in out.read_text()
    finally:
        process.kill()
        process.wait()


def test_examples_are_short_and_know_only_what_they_say() -> None:
    found = {path.name: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert set(found) == {
        "producer.py", "dashboard.py", "http_client.py", "confluent_producer.py", "grant_on_purchase.py",
    }  # fmt: skip
    for name, text in found.items():
        assert len(text.splitlines()) < LINES_MAX, name
        imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
        assert (name in ("http_client.py", "confluent_producer.py")) == ("streams" not in imported), name
