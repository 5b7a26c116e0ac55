"""Balances and ledgers over HTTP."""

from __future__ import annotations

import itertools

import httpx
import pytest

from streams.settings import Settings
from tests.gateway.callers import ADA, DASHBOARD, PRODUCER, assert_problem, caller_of

BALANCE = "/v1/credits"
LEDGER = "/v1/credits/ledger"


async def test_a_balance_says_how_old_it_is_and_comes_from_the_cache_next_time(books: httpx.AsyncClient) -> None:
    first = await books.get(BALANCE, headers=ADA)
    assert first.status_code == 200
    again = await books.get(BALANCE, headers=ADA)
    assert first.json() | {"age_s": 0, "from_cache": 0} == again.json() | {"age_s": 0, "from_cache": 0}
    assert (first.json()["from_cache"], again.json()["from_cache"]) == (False, True)
    assert again.headers["age"] == str(int(again.json()["age_s"]))
    newest = (await books.get(LEDGER, params={"limit": 1}, headers=ADA)).json()["entries"][0]
    assert (newest["balance_after"], newest["version"]) == (first.json()["balance"], first.json()["version"])


async def test_a_balance_is_of_the_named_user_and_needs_one(books: httpx.AsyncClient) -> None:
    for name in ("user", "user_id"):
        found = await books.get(BALANCE, params={name: "cleo"}, headers=DASHBOARD)
        assert (found.json()["user_id"], found.json()["unlimited"]) == ("cleo", True)
    assert_problem(await books.get(BALANCE, headers=DASHBOARD), 422, "invalid")
    both = {"user": "ada", "user_id": "ben"}
    assert_problem(await books.get(BALANCE, params=both, headers=DASHBOARD), 422, "invalid")


async def test_a_user_that_nobody_has_heard_of_has_nothing(books: httpx.AsyncClient) -> None:
    found = (await books.get(BALANCE, params={"user": "nemo"}, headers=PRODUCER)).json()
    assert (found["balance"], found["version"]) == (0, 0)
    empty = await books.get(LEDGER, params={"user": "nemo"}, headers=PRODUCER)
    assert empty.json() == {"entries": [], "next_cursor": None}


@pytest.mark.parametrize("path", [BALANCE, LEDGER])
async def test_nobody_reads_what_is_not_theirs(books: httpx.AsyncClient, path: str) -> None:
    assert_problem(await books.get(path, params={"user": "ben"}, headers=ADA), 403, "forbidden")
    assert_problem(await books.get(path), 401, "unauthorized")
    assert_problem(await books.get(path, headers={"authorization": "Bearer nobody"}), 401, "unauthorized")


async def test_pages_of_a_ledger_hold_every_entry_once_newest_first(books: httpx.AsyncClient) -> None:
    pages, cursor = [], None
    while True:
        query = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
        page = (await books.get(LEDGER, params=query, headers=ADA)).json()
        pages.append(page["entries"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    entries = [entry for page in pages for entry in page]
    assert [len(page) for page in pages[:-1]] == [3] * (len(pages) - 1)
    assert len(pages) > 2
    assert [entry["version"] for entry in entries] == list(range(len(entries), 0, -1))
    for newer, older in itertools.pairwise(entries):
        assert newer["balance_after"] == older["balance_after"] + newer["amount"]
    assert entries[-1]["kind"] == "purchase"
    assert entries[-1]["created_at"].endswith("Z")


async def test_the_page_after_the_last_entry_says_that_there_is_none(books: httpx.AsyncClient) -> None:
    everything = (await books.get(LEDGER, params={"limit": 200}, headers=ADA)).json()
    exact = (await books.get(LEDGER, params={"limit": len(everything["entries"])}, headers=ADA)).json()
    assert exact == everything
    assert exact["next_cursor"] is None


@pytest.mark.parametrize(
    "query", [{"cursor": "v0"}, {"cursor": "1"}, {"cursor": "v" + "9" * 19}, {"cursor": ""}, {"limit": 0},
              {"limit": 201}, {"limit": "many"}],
)  # fmt: skip
async def test_a_page_that_cannot_be_is_invalid(books: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert_problem(await books.get(LEDGER, params=query, headers=ADA), 422, "invalid")


async def test_while_postgres_is_away_it_is_said_so_soon(offline_settings: Settings) -> None:
    async with caller_of(offline_settings) as client:
        for path in (BALANCE, LEDGER):
            response = await client.get(path, headers=ADA)
            assert_problem(response, 503, "unavailable")
            assert int(response.headers["retry-after"]) > 0
            assert "127.0.0.1" not in response.text
