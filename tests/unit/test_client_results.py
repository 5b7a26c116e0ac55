"""What the client makes of events: exceptions with their fields, and results that know what they need to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from models.errors import DarkroomError, Unavailable
from models.refusals import Conflict, GenerationFailed, InsufficientCredits, Invalid, Pending, RateLimited, Refused
from models.requests import FieldError
from models.results import Completion, completion_of, read_as, refusal_of
from models.topics import COMPLETED, FAILED, REJECTED
from streams.client import DarkroomClient, WrongUse

ABOUT = {"request_id": "r1", "user_id": "ada", "operation": "maya.image", "message": "no"}
RATE = {"policy": "maya.image", "limit": 30, "window_s": 60, "remaining": 0, "retry_after_s": 1.5, "max_in_flight": 2}


@pytest.mark.parametrize(
    ("reason", "fields", "kind", "expected"),
    [
        ("rate_limited", RATE, RateLimited, RATE),
        ("insufficient_credits", {"required": 4, "current": 1}, InsufficientCredits, {"required": 4, "current": 1}),
        (
            "invalid",
            {"errors": [{"field": "prompt", "problem": "is required"}]},
            Invalid,
            {"errors": (FieldError("prompt", "is required"),)},
        ),
        ("conflict", {}, Conflict, {}),
        ("of_a_later_version", {}, Refused, {}),
    ],
)
def test_each_refusal_is_an_exception_with_its_fields(
    reason: str, fields: dict[str, object], kind: type[Refused], expected: dict[str, object]
) -> None:
    with pytest.raises(Refused) as found:
        completion_of(REJECTED, {**ABOUT, "reason": reason, **fields})
    assert type(found.value) is kind
    assert (found.value.user_id, found.value.request_id, str(found.value)) == ("ada", "r1", "no")
    assert {name: getattr(found.value, name) for name in expected} == expected


def test_fields_of_another_form_do_not_hide_the_refusal() -> None:
    found = refusal_of({**ABOUT, "reason": "rate_limited", "limit": "many"})
    assert isinstance(found, RateLimited)
    assert found.limit == 0


def test_a_failure_and_a_completion_are_told_apart_by_their_topic() -> None:
    with pytest.raises(GenerationFailed) as found:
        completion_of(FAILED, {**ABOUT, "reason": "expired", "refunded": 3})
    assert (found.value.reason, found.value.refunded) == ("expired", 3)
    model = {"version": "darkroom/portraits:abc", "trigger_word": "MARA"}
    done = completion_of(COMPLETED, {**ABOUT, "cost": 25, "refunded": 0, "images": [], "model": model, "later": 1})
    assert done.model is not None
    assert done.model.trigger_word == "MARA"
    with pytest.raises(Unavailable):
        read_as(Completion, {**ABOUT, "cost": "much"})


def test_what_is_pending_is_unavailable_and_names_the_id_to_ask_again_with() -> None:
    error = Pending("ada", "r1", "nobody decided")
    assert isinstance(error, Unavailable)
    assert isinstance(error, DarkroomError)
    assert error.request_id == "r1"
    assert "r1" in str(error)


def test_workers_do_not_pay_for_the_client() -> None:
    code = "import sys, streams; assert not {'streams.client', 'httpx'} & set(sys.modules); streams.DarkroomClient"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("how", [{}, {"kafka": "a:1", "http": "http://b"}, {"http": "b:8400"}])
def test_a_client_is_told_where_to_go_in_exactly_one_way(how: dict[str, str]) -> None:
    with pytest.raises(WrongUse):
        DarkroomClient(**how)  # type: ignore[arg-type]
