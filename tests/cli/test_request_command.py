"""`darkroom request --wait`: what a person is told, and when it gives up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner, Result

from cli.main import build_app, run
from models.outputs import Output
from models.topics import CANCEL_REQUESTED, COMPLETED, REQUESTED
from streams.reading import Reader
from streams.settings import Settings, variable_of
from tests.cli.events import admitted, completed, event, failed, publish, rejected

pytestmark = pytest.mark.usefixtures("applied_topics")


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name in ("kafka", "postgres", "redis", "topic_prefix", "home", "partitions"):
        monkeypatch.setenv(variable_of(name), str(getattr(settings, name)))
    return lambda *arguments: CliRunner().invoke(build_app(), list(arguments))


@contextmanager
def answering(settings: Settings, *answers: Output) -> Iterator[None]:
    """Publish the answers as soon as a request has arrived."""

    async def answer() -> None:
        async with Reader(settings, [REQUESTED]) as reader:
            await reader.start_at_end()
            listening.set()
            deadline = time.monotonic() + 20
            while not (found := await reader.read(0.2)):
                assert time.monotonic() < deadline, "no request came"
            await publish(settings, found[0][1].key.decode(), *answers)  # type: ignore[union-attr]

    listening = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(answer()))
    thread.start()
    assert listening.wait(20)
    yield
    thread.join(20)


LATER_MS = 4_000_000_000_000


def test_a_completed_request_prints_its_pictures(settings: Settings, command: Callable[..., Result]) -> None:
    # The events of somebody else's request with the same id are not ours.
    others = (rejected("user-of-another", "r1"), completed("ada", "r2"))
    with answering(settings, *others, admitted("ada", "r1", LATER_MS), completed("ada", "r1")):
        done = command("request", "ada", "maya.image", "a harbour", "--id", "r1", "--wait", "--timeout", "30")
    assert done.exit_code == 0, done.output
    assert "admitted: 1 credit, 9 left" in done.output
    assert "http://gateway/r1.jpg" in done.output


@pytest.mark.parametrize("end", [rejected, failed])
def test_a_request_that_ends_without_pictures_exits_with_1(
    end: Callable[[str, str], Output], settings: Settings, command: Callable[..., Result]
) -> None:
    with answering(settings, end("ada", "r1")):
        done = command("request", "ada", "maya.image", "x", "--id", "r1", "--wait", "--json", "--timeout", "30")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["outcome"] in {"rejected", "failed"}
    assert document["event"]["message"]


def test_a_request_that_completed_long_ago_is_found_again(settings: Settings, command: Callable[..., Result]) -> None:
    asyncio.run(publish(settings, "ada", completed("ada", "r1")))
    with answering(settings, admitted("ada", "r1", admitted_at_ms=1_000)):
        done = command("request", "ada", "maya.image", "x", "--id", "r1", "--wait", "--timeout", "30")
    assert done.exit_code == 0, done.output
    assert "the same request again" in done.output


def test_waiting_ends_after_the_timeout(command: Callable[..., Result]) -> None:
    done = command("request", "ada", "maya.image", "x", "--wait", "--json", "--timeout", "1.5")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["outcome"] == "undecided"


def test_without_wait_it_says_where_the_request_went(command: Callable[..., Result]) -> None:
    done = command("request", "ada", "maya.image", "x", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert (document["user_id"], document["topic"], document["offset"]) == ("ada", REQUESTED, 0)


def test_a_grant_is_sent_under_the_id_that_was_given(command: Callable[..., Result]) -> None:
    done = command("grant", "ada", "7", "--kind", "bonus", "--id", "g1", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["grant_id"] == "g1"


def test_a_trained_model_is_said_with_the_word_that_calls_it(
    settings: Settings, command: Callable[..., Result]
) -> None:
    pictures = [part for number in range(5) for part in ("--image", f"http://x/{number}.jpg")]
    model = {"version": "darkroom/portraits:abc", "trigger_word": "MARA"}
    end = event(COMPLETED, "ada", "r1", images=[], model=model, cost=25, refunded=0)
    with answering(settings, admitted("ada", "r1", LATER_MS), end):
        done = command("request", "ada", "training.model", "me", "--id", "r1", *pictures, "--wait", "--timeout", "30")
    assert done.exit_code == 0, done.output
    assert "MARA calls the model darkroom/portraits:abc" in done.output


@pytest.mark.parametrize("operation", ["video.animation", "training.model"])
def test_what_an_operation_cannot_do_without_is_asked_for_by_name(
    operation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["request", "ada", operation, "x"]) == 2
    assert "options.image" in capsys.readouterr().err


def test_a_cancel_is_sent_to_the_user_s_partition(settings: Settings, command: Callable[..., Result]) -> None:
    sent = command("request", "ada", "maya.image", "x", "--id", "r1", "--json")
    done = command("cancel", "ada", "r1", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert (document["topic"], document["user_id"], document["request_id"]) == (CANCEL_REQUESTED, "ada", "r1")
    assert document["partition"] == json.loads(sent.stdout)["partition"]


def test_a_cancel_of_what_cannot_be_an_id_is_wrong_use() -> None:
    assert run(["cancel", "ada", "a/b"]) == 2
