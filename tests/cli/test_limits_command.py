"""`darkroom limits` as an operator and a program see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from cli import main
from models.operations import POLICIES
from models.topics import REJECTED
from streams.settings import Settings, variable_of
from tests.cli.events import event, publish

pytestmark = pytest.mark.usefixtures("applied_topics")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name in ("kafka", "postgres", "redis", "topic_prefix", "home", "partitions"):
        monkeypatch.setenv(variable_of(name), str(getattr(settings, name)))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["limits", *arguments])
        output, errors = capsys.readouterr()
        return code, output, errors

    return call


def test_what_is_not_named_stays_and_the_new_policy_is_shown(command: Command) -> None:
    code, output, errors = command("set", "maya.image", "--limit", "7", "--mode", "shadow", "--json")
    assert code == 0, errors
    before, after = json.loads(output)["before"], json.loads(output)["after"]
    assert before == {"policy": "maya.image", "limit": 30, "window_s": 60, "mode": "enforce", "max_in_flight": None}
    assert after == before | {"limit": 7, "mode": "shadow"}
    assert command("set", "maya.image", "--max-in-flight", "3")[0] == 0
    code, output, _ = command("show", "--json")
    shown = {policy["policy"]: policy for policy in json.loads(output)}
    assert shown["maya.image"] == after | {"max_in_flight": 3}
    assert shown.keys() == POLICIES.keys()
    assert command("set", "maya.image", "--max-in-flight", "0")[0] == 0
    assert "7 in 60 s, shadow, any number at once" in command("show")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("maya.film", "--limit", "3"), "there is no policy maya.film; there are: maya.image"),
     (("maya.image",), "name at least one of"), (("maya.image", "--limit", "-1"), "limit: "),
     (("maya.image", "--window", "0"), "window_s: "), (("maya.image", "--window", "2678401"), "window_s: "),
     (("maya.image", "--max-in-flight", "-1"), "max_in_flight: "), (("maya.image", "--mode", "off"), "off")],
)  # fmt: skip
def test_a_bad_change_is_wrong_use_in_one_line(command: Command, arguments: tuple[str, ...], says: str) -> None:
    code, output, errors = command("set", *arguments)
    assert (code, output) == (2, "")
    assert says in errors
    assert errors.count("\n") == 1


def test_whoever_was_refused_most_comes_first(command: Command, settings: Settings) -> None:
    assert command("top")[1] == "nobody was refused in the last 60 minutes\n"
    for user, count in (("quiet", 1), ("loud", 3)):
        refusals = [
            event(REJECTED, user, f"r{number}", reason="rate_limited", policy="maya.image") for number in range(count)
        ]
        asyncio.run(publish(settings, user, *refusals, event(REJECTED, user, "poor", reason="insufficient_credits")))
    code, output, errors = command("top", "--json")
    assert code == 0, errors
    assert json.loads(output)["top"] == [
        {"user_id": "loud", "policy": "maya.image", "refusals": 3},
        {"user_id": "quiet", "policy": "maya.image", "refusals": 1},
    ]
    assert command("top", "--count", "1")[1].split() == ["3", "maya.image", "loud"]
