"""What to ask of the provider, what its answers mean, and which run is whose: plain functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.facts import PredictionUpdated
from models.provider_work import (
    BACKOFF_MAX_S,
    Model,
    Work,
    adopted,
    outputs_expected,
    provider_input,
    rejected,
    retry_delay_s,
    seed_of,
    started,
    updated,
    webhook_url,
)
from models.requests import Options

PLAIN = Model("owner/name")
TRAINED = Model("a" * 64, trigger_word="TOK7")


def work(user_id: str = "u1", request_id: str = "r1", **changed: Any) -> Work:
    fields: dict[str, Any] = {
        "operation": "maya.image",
        "prompt": "a {calm} lake",
        "options": Options(),
        "model": PLAIN,
    } | changed
    return Work(user_id, request_id, submitted_at=1000.0, **fields)


def body(asked: Work, prediction_id: str = "p1", **changed: Any) -> dict[str, Any]:
    return {"id": prediction_id, "status": "starting", "input": provider_input(asked)} | changed


def test_every_attempt_of_a_request_asks_for_the_same() -> None:
    assert provider_input(work(attempt=1)) == provider_input(work(attempt=7))


@given(
    st.sets(st.tuples(st.from_regex(r"[a-z0-9]{1,8}\Z"), st.from_regex(r"[a-z0-9]{1,8}\Z")), min_size=2, max_size=50)
)
def test_requests_have_seeds_of_their_own(identities: set[tuple[str, str]]) -> None:
    assert len({seed_of(work(*identity)) for identity in identities}) == len(identities)


def test_the_user_s_own_seed_is_kept() -> None:
    assert provider_input(work(options=Options(seed=4_000_000_000)))["seed"] == 4_000_000_000


def test_a_prompt_with_braces_is_not_a_template() -> None:
    assert provider_input(work())["prompt"] == "a {calm} lake"


@pytest.mark.parametrize(
    ("operation", "model", "prompt", "expected"),
    [
        ("maya.image", TRAINED, "a lake", "TOK7 a lake"),
        ("maya.image", TRAINED, "a lake with TOK7", "a lake with TOK7"),
        ("studio.images", TRAINED, "a lake", "TOK7 a lake"),
        ("studio.images", PLAIN, "a lake", "a lake"),
    ],
)
def test_the_trigger_word_comes_first_unless_it_is_there(
    operation: str, model: Model, prompt: str, expected: str
) -> None:
    assert provider_input(work(operation=operation, model=model, prompt=prompt))["prompt"] == expected


@pytest.mark.parametrize(("wanted", "due"), [(None, 4), (2, 2), (8, 4)])
def test_a_set_has_no_more_pictures_than_its_price_covers(wanted: int | None, due: int) -> None:
    assert outputs_expected("studio.images", Options(num_outputs=wanted)) == due
    assert outputs_expected("maya.image", Options(num_outputs=wanted)) == 1


def test_the_webhook_url_names_the_request() -> None:
    url = webhook_url("http://here", work("u:1", "r.2"))
    assert url == "http://here/v1/webhooks/replicate?user=u%3A1&request=r.2"


def test_a_created_run_has_started_even_in_a_status_that_is_new_to_us() -> None:
    assert started(work(), {"id": "p1", "status": "queued_for_gpu"}).status == "starting"
    assert started(work(), {"id": "p1", "status": "succeeded", "output": []}).status == "succeeded"
    assert started(work(), {"id": "p1"}).status == "starting"


def test_a_status_of_any_shape_makes_a_fact() -> None:
    assert updated(work(prediction_id="p9"), {"status": 7}, "reconciler").status == "unknown"
    assert updated(work(prediction_id="p9"), {"status": "x" * 500}, "reconciler").status == "x" * 64
    assert updated(work(prediction_id="p9"), {}, "reconciler").prediction_id == "p9"


def test_a_refusal_says_why_without_a_run() -> None:
    fact = rejected(work(), "422: too bold")
    assert (fact.status, fact.prediction_id, fact.prediction) == ("rejected", None, {"error": "422: too bold"})


@given(st.integers(-3, 10_000), st.floats(0, 1))
def test_backoff_grows_and_stays_bounded(attempt: int, chance: float) -> None:
    assert 0.5 <= retry_delay_s(attempt, chance) <= BACKOFF_MAX_S
    assert retry_delay_s(attempt, chance) <= retry_delay_s(attempt + 2, chance)


def test_the_provider_s_wish_is_met_but_not_for_ever() -> None:
    assert 7.0 <= retry_delay_s(1, 0.5, 7.0) <= 8.0
    assert retry_delay_s(1, 0.0, 10_000.0) == 300.0


def test_a_lost_run_is_known_by_its_derived_seed_and_prompt() -> None:
    lost, other = work(), work("u2", "r2")
    runs, unclear = adopted([lost], [body(other, "p2"), body(lost, "p1")], set(), [])
    assert runs["u1", "r1"]["id"] == "p1"
    assert not unclear


def test_a_run_that_belongs_to_a_request_is_not_adopted_by_another() -> None:
    runs, unclear = adopted([work()], [body(work(), "p1")], {"p1"}, [])
    assert not runs
    assert not unclear


def test_a_webhook_url_in_the_list_decides() -> None:
    seeded: dict[str, Any] = {"options": Options(seed=5), "prompt": "same"}
    mine, twin = work(**seeded), work("u2", "r2", **seeded)
    listed = [body(work, p, webhook=webhook_url("http://x", work)) for work, p in ((twin, "p2"), (mine, "p1"))]
    runs, unclear = adopted([mine], listed, set(), [mine, twin])
    assert runs["u1", "r1"]["id"] == "p1"
    assert not unclear


def test_twins_with_a_seed_of_their_own_choice_are_neither_adopted_nor_tried_again() -> None:
    seeded: dict[str, Any] = {"options": Options(seed=5), "prompt": "same"}
    mine, twin = work(**seeded), work("u2", "r2", **seeded)
    assert adopted([mine], [body(mine, "p1")], set(), [mine, twin]) == ({}, {("u1", "r1")})
    assert adopted([mine], [body(mine, "p1"), body(twin, "p2")], set(), [mine]) == ({}, {("u1", "r1")})


def test_a_chosen_seed_without_a_twin_is_decisive() -> None:
    mine = work(options=Options(seed=5))
    runs, _ = adopted([mine], [body(mine, "p1")], set(), [mine, work("u2", "r2")])
    assert runs["u1", "r1"]["id"] == "p1"


def test_an_older_run_of_the_same_seed_is_somebody_else_s() -> None:
    mine = work(options=Options(seed=5))
    listed = [body(mine, "p1", created_at="1970-01-01T00:10:00Z")]
    assert adopted([mine], listed, set(), [mine]) == ({}, set())


@pytest.mark.parametrize(
    "broken", [{}, {"id": "../p"}, {"id": "p1", "input": None}, {"id": "p1", "input": {"seed": "x"}}]
)
def test_a_list_of_strange_bodies_adopts_nothing(broken: dict[str, Any]) -> None:
    assert adopted([work()], [broken], set(), []) == ({}, set())


def test_a_listed_run_with_a_webhook_that_is_no_url_is_nobody_s() -> None:
    lost = work()
    body = {"id": "p9", "webhook": "http://[bad", "input": {"seed": 1, "prompt": "else"}}
    assert adopted([lost], [body], set(), []) == ({}, set())


def test_an_output_without_an_address_keeps_its_place() -> None:
    fact = PredictionUpdated("r", "u", "succeeded", "webhook", "p", {"output": ["http://a/0", None, "http://a/2", 7]})
    assert fact.output_urls() == ["http://a/0", "", "http://a/2", ""]
    assert PredictionUpdated("r", "u", "succeeded", "webhook", "p", {"output": [None]}).output_urls() == []
