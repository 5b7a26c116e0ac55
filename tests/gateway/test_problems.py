"""Every error is a problem document of a code in the registry, and says nothing of our insides."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from cli.documents import documents
from gateway.app import create_app
from gateway.problems import CONTENT_TYPE, Problem, problems
from models.access import Forbidden
from models.errors import Unavailable, WrongUse
from models.problem_codes import PROBLEMS
from streams.settings import Settings

ROOT = Path(__file__).parents[2]


async def answer_to(settings: Settings, error: Exception) -> httpx.Response:
    """What the gateway answers when a route raises this."""
    app = create_app(settings)
    broken = APIRouter()

    @broken.get("/broken")
    async def break_it() -> None:
        raise error

    app.include_router(broken)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/broken")


def test_committed_documents_are_those_of_the_code() -> None:
    for path, text in documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python -m cli.documents`"


def test_every_code_in_the_gateway_is_in_the_registry_with_its_status() -> None:
    raised = {
        (int(status), code)
        for path in ROOT.glob("gateway/*.py")
        for status, code in re.findall(r'Problem\(\s*(\d{3}),\s*"(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert len(raised) > 8
    assert {(status, code) for status, code in raised if PROBLEMS[code].status != status} == set()


@pytest.mark.parametrize("code", sorted(PROBLEMS))
async def test_a_code_is_answered_with_its_status_title_and_type(offline_settings: Settings, code: str) -> None:
    kind = PROBLEMS[code]
    problem = Problem(kind.status, code, "one line", {"retry-after": "3"}, {"limit": 7})
    response = await answer_to(offline_settings, problem)
    assert (response.status_code, response.headers["content-type"]) == (kind.status, CONTENT_TYPE)
    assert response.headers["retry-after"] == "3"
    assert response.json() == {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": kind.status,
        "code": code,
        "detail": "one line",
        "limit": 7,
    }


@pytest.mark.parametrize("code", sorted(PROBLEMS))
async def test_the_type_of_a_problem_leads_to_its_meaning(offline: httpx.AsyncClient, code: str) -> None:
    response = await offline.get(f"/problems/{code}")
    assert response.status_code == 200
    assert (response.json()["code"], response.json()["what_to_do"]) == (code, PROBLEMS[code].advice)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Forbidden("this token is for another user"), 403, "forbidden"),
        (WrongUse("limit: must be from 1 to 100"), 422, "invalid"),
        (Unavailable("Postgres", "connection to 10.0.0.7 refused"), 503, "unavailable"),
        (RuntimeError("password=hunter2 at 10.0.0.7"), 500, "internal"),
    ],
)
async def test_our_errors_have_their_codes_and_tell_no_internals(
    offline_settings: Settings, error: Exception, status: int, code: str
) -> None:
    response = await answer_to(offline_settings, error)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == CONTENT_TYPE
    assert "10.0.0.7" not in response.text
    assert "hunter2" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/problems/no-such", 404, "not_found"),
        ("PUT", "/healthz", 405, "method_not_allowed"),
        ("GET", "/v1/credits/", 404, "not_found"),
    ],
)
async def test_what_no_route_answers_is_a_problem_too(
    offline: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await offline.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == CONTENT_TYPE


def test_a_route_may_only_name_codes_of_the_registry() -> None:
    described = problems("already_ended", "ambiguous", "unavailable")
    assert set(described) == {409, 503}
    assert set(described[409]["content"][CONTENT_TYPE]["examples"]) == {"already_ended", "ambiguous"}
    assert "Retry-After" in described[503]["headers"]
    with pytest.raises(KeyError):
        problems("no_such_code")
