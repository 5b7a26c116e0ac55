"""The prediction endpoints as the real client sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import replicate
from replicate.exceptions import ReplicateError

from tests.emulator.helpers import WEB, client_of, finished, until


def test_a_prediction_by_version_starts_and_succeeds_with_its_outputs(client: replicate.Client) -> None:
    made = client.predictions.create(version="a" * 64, input={"prompt": "a calm sea", "num_outputs": 4})
    assert made.status == "starting"
    assert made.output is None
    done = finished(client, made)
    assert done.status == "succeeded"
    assert len(set(done.output)) == 4
    assert done.progress.percentage == 1.0
    assert done.metrics["total_time"] >= done.metrics["predict_time"] > 0
    assert done.created_at < done.started_at < done.completed_at


def test_a_prediction_of_an_official_model_names_the_model(client: replicate.Client) -> None:
    made = client.models.predictions.create(model="black-forest-labs/flux-schnell", input={"prompt": "hills"})
    assert made.model == "black-forest-labs/flux-schnell"
    assert finished(client, made).status == "succeeded"


def test_a_version_with_its_owner_names_the_model(client: replicate.Client) -> None:
    made = client.predictions.create(version="mara/portraits:abc123", input={"prompt": "hills"})
    assert (made.model, made.version) == ("mara/portraits", "abc123")


def test_a_caller_that_prefers_to_wait_gets_the_finished_prediction(client: replicate.Client) -> None:
    made = client.predictions.create(version="abc", input={"prompt": "hills"}, wait=5)
    assert made.status == "succeeded"


def test_a_cancelled_prediction_ends_without_outputs(start: Callable[..., str]) -> None:
    client = client_of(start(latency_min_s=30, latency_max_s=30))
    made = client.predictions.create(version="abc", input={"prompt": "hills"})
    assert client.predictions.cancel(made.id).status == "canceled"
    again = client.predictions.get(made.id)
    assert (again.status, again.output) == ("canceled", None)
    assert again.completed_at


def test_a_cancel_that_comes_too_late_changes_nothing(client: replicate.Client) -> None:
    done = finished(client, client.predictions.create(version="abc", input={"prompt": "hills"}))
    late = client.predictions.cancel(done.id)
    assert (late.status, late.output) == ("succeeded", done.output)


def test_predictions_are_listed_newest_first_over_pages(start: Callable[..., str]) -> None:
    client = client_of(start())
    made = [client.predictions.create(version="abc", input={"prompt": f"hill {number}"}).id for number in range(203)]
    listed = [prediction.id for page in replicate_pages(client) for prediction in page.results]
    assert listed == list(reversed(made))


def replicate_pages(client: replicate.Client) -> list[replicate.pagination.Page]:
    pages = [client.predictions.list()]
    while pages[-1].next:
        pages.append(client.predictions.list(pages[-1].next))
    assert [len(page) for page in pages] == [100, 100, 3]
    assert pages[0].previous is None
    assert client.predictions.list(pages[1].previous).results[0].id == pages[0].results[0].id
    return pages


def test_a_list_does_not_show_webhooks_and_does_show_inputs(client: replicate.Client, emulator: str) -> None:
    input = {"prompt": "hills for a list", "seed": 77}
    made = client.predictions.create(version="abc", input=input, webhook="http://127.0.0.1:9/x?user=a&request=b")
    results = WEB.get(f"{emulator}/v1/predictions").json()["results"]
    found = next(result for result in results if result["id"] == made.id)
    assert found["input"] == input
    assert "webhook" not in found


def test_an_unknown_prediction_is_not_found(client: replicate.Client) -> None:
    with pytest.raises(ReplicateError) as raised:
        client.predictions.get("nobody")
    assert raised.value.status == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"version": "abc", "input": {"num_outputs": 9}}, "num_outputs"),
        ({"version": "abc", "input": {"num_outputs": 0}}, "num_outputs"),
        ({"version": "abc", "input": {"aspect_ratio": "wide"}}, "aspect_ratio"),
        ({"version": "abc", "input": {"seed": "seven"}}, "seed"),
        ({"version": "abc", "input": "a sea"}, "input"),
        ({"input": {}}, "version"),
        ({"version": "abc", "input": {}, "webhook": "ftp://x"}, "webhook"),
        ({"version": "abc", "input": {}, "webhook_events_filter": ["finished"]}, "webhook_events_filter"),
        ({"version": "abc", "input": {"prompt": "[[fault:unheard_of]]"}}, "unheard_of"),
    ],
)
def test_a_bad_request_is_refused_naming_the_field(emulator: str, body: object, field: str) -> None:
    answer = WEB.post(f"{emulator}/v1/predictions", json=body)
    assert answer.status_code == 422
    assert field in answer.json()["detail"]


def test_a_body_that_is_no_json_or_too_large_is_refused(emulator: str) -> None:
    assert WEB.post(f"{emulator}/v1/predictions", content=b"{").status_code == 400
    assert WEB.post(f"{emulator}/v1/predictions", content=b" " * (3 << 20)).status_code == 413


def test_only_the_right_token_is_let_in(start: Callable[..., str]) -> None:
    url = start(api_token="r8_right")
    with pytest.raises(ReplicateError) as raised:
        client_of(url, "r8_wrong").predictions.list()
    assert raised.value.status == 401
    assert client_of(url, "r8_right").predictions.list().results == []
    assert WEB.get(f"{url}/healthz").status_code == 200
    assert WEB.get(f"{url}/readyz").status_code == 200


def test_latency_follows_from_the_seed_and_the_prompt(start: Callable[..., str]) -> None:
    def times(seed: int) -> list[float]:
        client = client_of(start(latency_min_s=0.0, latency_max_s=0.6, seed=seed))
        made = [client.predictions.create(version="abc", input={"prompt": f"hill {number}"}) for number in range(4)]
        return [finished(client, prediction).metrics["total_time"] for prediction in made]

    first, again, other = times(1), times(1), times(2)
    assert first == pytest.approx(again, abs=0.1)
    assert first != pytest.approx(other, abs=0.1)


def test_more_creations_than_the_limit_are_throttled_until_the_moment_named(start: Callable[..., str]) -> None:
    client = client_of(start(per_minute=60))
    answers = [WEB.post(f"{client._base_url}/v1/predictions", json={"version": "a", "input": {}}) for _ in range(70)]
    throttled = [answer for answer in answers if answer.status_code == 429]
    assert len(throttled) >= 5
    assert throttled[-1].json()["retry_after"] == int(throttled[-1].headers["retry-after"]) == 1
    assert throttled[-1].json()["status"] == 429
    until(
        lambda: WEB.post(f"{client._base_url}/v1/predictions", json={"version": "a", "input": {}}).status_code == 201,
        "a creation after the wait",
        3.0,
    )


def test_the_account_can_be_read(client: replicate.Client) -> None:
    assert client.accounts.current().username == "emulator"


def test_old_predictions_lose_their_data_and_their_files(start: Callable[..., str]) -> None:
    client = client_of(start(output_expiry_s=0.3))
    done = finished(client, client.predictions.create(version="abc", input={"prompt": "hills"}))
    assert WEB.get(done.output[0]).status_code == 200
    until(lambda: WEB.get(done.output[0]).status_code == 404, "the file is gone")

    def removed() -> bool:
        client.predictions.create(version="abc", input={"prompt": "another"})
        return client.predictions.get(done.id).output is None

    until(removed, "the data is gone")
    left = client.predictions.get(done.id)
    assert (left.status, left.input, left.logs) == ("succeeded", {}, "")


def test_a_list_can_be_narrowed_to_a_stretch_of_time(start: Callable[..., str]) -> None:
    url = start()
    client = client_of(url)
    made = [client.predictions.create(version="abc", input={"prompt": "hills"}) for _ in range(5)]

    def ids(**query: str) -> list[str]:
        return [found["id"] for found in WEB.get(f"{url}/v1/predictions", params=query).json()["results"]]

    assert ids(created_after=made[3].created_at) == [made[4].id, made[3].id]
    assert ids(created_before=made[1].created_at) == [made[0].id]
    assert ids(created_after=made[1].created_at, created_before=made[3].created_at) == [made[2].id, made[1].id]
    assert WEB.get(f"{url}/v1/predictions", params={"created_after": "yesterday"}).status_code == 400
    assert WEB.get(f"{url}/v1/predictions", params={"cursor": "foreign"}).status_code == 400
