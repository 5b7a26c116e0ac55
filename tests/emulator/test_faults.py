"""Every fault through the whole path, asked for by a mark in the prompt; and the other ways to ask."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import replicate
from PIL import Image
from pydantic.v1 import ValidationError
from replicate.exceptions import ReplicateError

from tests.emulator.helpers import WEB, Receiver, client_of, finished, until


def prompt_with(fault: str) -> str:
    return f"calm hills {uuid.uuid4().hex} [[fault:{fault}]]"


def create(client: replicate.Client, prompt: str, **more: Any) -> Any:
    outputs = more.pop("num_outputs", 1)
    return client.predictions.create(version="abc", input={"prompt": prompt, "num_outputs": outputs}, **more)


def ids_of(url: str, request: str, user: str = "mara") -> list[str]:
    report = WEB.get(f"{url}/emulator/counts", params={"user": user, "request": request}).json()
    found: list[str] = report["requests"][f"{user}/{request}"]
    return found


@pytest.mark.parametrize(("fault", "statuses"), [("rate_limited", {429}), ("server_error", {500, 502, 503})])
def test_a_refused_creation_can_be_tried_again(
    client: replicate.Client, receiver: Receiver, emulator: str, fault: str, statuses: set[int]
) -> None:
    request = uuid.uuid4().hex
    webhook = receiver.address(request=request)
    prompt = prompt_with(f"{fault}*2")
    for _ in range(2):
        with pytest.raises(ReplicateError) as raised:
            create(client, prompt, webhook=webhook)
        assert raised.value.status in statuses
    assert ids_of(emulator, request) == []
    made = create(client, prompt, webhook=webhook)
    assert ids_of(emulator, request) == [made.id]


def test_a_throttled_creation_says_when_to_come_back(emulator: str) -> None:
    body = {"version": "abc", "input": {"prompt": prompt_with("rate_limited")}}
    answer = WEB.post(f"{emulator}/v1/predictions", json=body)
    assert answer.status_code == 429
    assert answer.json() == {"detail": answer.json()["detail"], "status": 429, "retry_after": 1}
    assert answer.headers["retry-after"] == "1"


def test_a_refused_input_is_final(client: replicate.Client) -> None:
    prompt = prompt_with("refused*9")
    for _ in range(2):
        with pytest.raises(ReplicateError) as raised:
            create(client, prompt)
        assert raised.value.status == 422


@pytest.mark.parametrize(("fault", "runs"), [("lost_answer", 1), ("lost_request", 0)])
def test_a_lost_connection_may_or_may_not_leave_a_run_behind(
    client: replicate.Client, receiver: Receiver, emulator: str, fault: str, runs: int
) -> None:
    request = uuid.uuid4().hex
    with pytest.raises(httpx.TransportError):
        create(client, prompt_with(fault), webhook=receiver.address(request=request))
    ids = ids_of(emulator, request)
    assert len(ids) == runs
    if runs:
        until(lambda: "succeeded" in receiver.statuses(ids[0]), "the orphan announces itself")
        path = receiver.of(ids[0])[0].path
        assert f"request={request}" in path


def test_a_slow_answer_comes_after_the_webhooks(client: replicate.Client, receiver: Receiver) -> None:
    began = time.monotonic()
    made = create(client, prompt_with("slow_answer"), webhook=receiver.address())
    assert time.monotonic() - began >= 0.4
    assert made.status == "succeeded"
    assert receiver.statuses(made.id)[-1] == "succeeded"


def test_a_failed_prediction_says_why(client: replicate.Client, receiver: Receiver) -> None:
    made = create(client, prompt_with("failed"), webhook=receiver.address())
    done = finished(client, made)
    assert (done.status, done.output) == ("failed", None)
    assert done.error
    assert until(lambda: receiver.statuses(made.id)[-1:] == ["failed"], "the webhook")


def test_an_aborted_prediction_has_a_status_the_client_does_not_know(client: replicate.Client, emulator: str) -> None:
    made = create(client, prompt_with("aborted"))
    url = f"{emulator}/v1/predictions/{made.id}"
    assert until(lambda: WEB.get(url).json()["status"] == "aborted", "aborted")
    with pytest.raises(ValidationError):
        client.predictions.get(made.id)


def test_a_stuck_prediction_stays_until_it_is_cancelled(client: replicate.Client) -> None:
    stuck, other = create(client, prompt_with("stuck")), create(client, "calm hills")
    finished(client, other)
    assert client.predictions.get(stuck.id).status == "starting"
    assert client.predictions.cancel(stuck.id).status == "canceled"


@pytest.mark.parametrize(("wanted", "delivered"), [(4, 2), (1, 0)])
def test_a_half_set_succeeds_with_fewer_outputs(client: replicate.Client, wanted: int, delivered: int) -> None:
    done = finished(client, create(client, prompt_with("half_set"), num_outputs=wanted))
    assert done.status == "succeeded"
    assert len(done.output) == delivered


def test_a_duplicate_webhook_is_the_same_message_twice(client: replicate.Client, receiver: Receiver) -> None:
    made = create(
        client, prompt_with("duplicate_webhook"), webhook=receiver.address(), webhook_events_filter=["completed"]
    )
    first, second = receiver.wait_for(made.id, 2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.raw == second.raw


def test_a_missing_webhook_never_comes(client: replicate.Client, receiver: Receiver, emulator: str) -> None:
    made = create(client, prompt_with("missing_webhook"), webhook=receiver.address())
    finished(client, made)
    other = create(client, "calm hills", webhook=receiver.address())
    until(lambda: receiver.statuses(other.id)[-1:] == ["succeeded"], "a later prediction's webhook")
    assert receiver.of(made.id) == []


def test_a_late_webhook_comes_after_its_time(client: replicate.Client, receiver: Receiver) -> None:
    began = time.monotonic()
    made = create(client, prompt_with("late_webhook"), webhook=receiver.address(), webhook_events_filter=["completed"])
    finished(client, made)
    got = receiver.wait_for(made.id, 1)
    assert got[0].at - began >= 0.4


def test_out_of_order_webhooks_tell_the_past_last(client: replicate.Client, receiver: Receiver) -> None:
    made = create(client, prompt_with("out_of_order_webhooks"), webhook=receiver.address())
    statuses = [webhook.body["status"] for webhook in receiver.wait_for(made.id, 4)]
    assert statuses == ["succeeded", "processing", "processing", "processing"]


def test_a_forged_webhook_lies_and_is_not_genuine(client: replicate.Client, receiver: Receiver) -> None:
    made = create(
        client, prompt_with("forged_webhook"), webhook=receiver.address(), webhook_events_filter=["completed"]
    )
    forged, genuine = receiver.wait_for(made.id, 2)
    secret = client.webhooks.default.secret().key
    assert (forged.body["status"], forged.is_genuine(secret)) == ("failed", False)
    assert (genuine.body["status"], genuine.is_genuine(secret)) == ("succeeded", True)


def test_a_stale_webhook_is_signed_well_but_long_ago(client: replicate.Client, receiver: Receiver) -> None:
    made = create(client, prompt_with("stale_webhook"), webhook=receiver.address(), webhook_events_filter=["completed"])
    fresh, stale = receiver.wait_for(made.id, 2)
    secret = client.webhooks.default.secret().key
    assert fresh.is_genuine(secret)
    assert not stale.is_genuine(secret)
    assert stale.is_genuine(secret, tolerance_s=7200)


def test_a_corrupt_image_does_not_decode(client: replicate.Client) -> None:
    content = output_of(client, "corrupt_image").content
    with pytest.raises(OSError):  # noqa: PT011
        Image.open(io.BytesIO(content)).load()


def test_a_wrong_content_type_hides_a_picture(client: replicate.Client) -> None:
    answer = output_of(client, "wrong_content_type")
    assert answer.headers["content-type"].startswith("text/html")
    Image.open(io.BytesIO(answer.content)).load()


def test_a_page_may_pretend_to_be_a_picture(client: replicate.Client) -> None:
    answer = output_of(client, "not_an_image")
    assert answer.headers["content-type"] == "image/jpeg"
    assert b"<script>" in answer.content


def test_a_huge_image_is_a_small_file_that_claims_gigabytes(client: replicate.Client) -> None:
    content = output_of(client, "huge_image").content
    assert len(content) < 1 << 20
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(content)).load()


def test_an_expired_output_is_gone_at_once(client: replicate.Client) -> None:
    assert output_of(client, "expired_output").status_code == 404


def test_a_redirected_output_leads_to_a_private_address(client: replicate.Client) -> None:
    answer = output_of(client, "redirected_output")
    assert (answer.status_code, answer.next_request is not None) == (302, True)
    assert answer.headers["location"].startswith("http://169.254.")


def test_a_slow_download_takes_its_time_and_is_whole(client: replicate.Client) -> None:
    began = time.monotonic()
    answer = output_of(client, "slow_download")
    assert time.monotonic() - began >= 0.4
    Image.open(io.BytesIO(answer.content)).load()


def test_a_file_fault_can_be_limited_to_one_output_and_one_download(client: replicate.Client) -> None:
    done = finished(client, create(client, prompt_with("expired_output*1@1"), num_outputs=2))
    first = [WEB.get(url).status_code for url in done.output]
    again = [WEB.get(url).status_code for url in done.output]
    assert (first, again) == ([200, 404], [200, 200])


def output_of(client: replicate.Client, fault: str) -> httpx.Response:
    done = finished(client, create(client, prompt_with(fault)))
    return WEB.get(done.output[0], timeout=5)


def test_a_header_asks_for_faults_of_one_request(emulator: str) -> None:
    body = {"version": "abc", "input": {"prompt": "calm hills"}}
    headers = {"x-emulator-fault": "failed, half_set"}
    made = WEB.post(f"{emulator}/v1/predictions", json=body, headers=headers).json()
    assert until(lambda: WEB.get(made["urls"]["get"]).json()["status"] == "failed", "failed")
    assert WEB.get(made["urls"]["get"], headers={"x-emulator-fault": "read_error"}).status_code == 500
    assert WEB.post(f"{emulator}/v1/predictions", json=body, headers={"x-emulator-fault": "?"}).status_code == 422


def test_rates_are_switched_at_run_time_and_follow_from_the_seed(start: Callable[..., str]) -> None:
    def failures(seed: int) -> list[int]:
        url = start(seed=seed)
        body = {"version": "abc", "input": {"prompt": "calm hills"}}
        assert WEB.post(f"{url}/v1/predictions", json=body).status_code == 201
        assert WEB.put(f"{url}/emulator/faults", json={"refused": 0.5}).json()["rates"] == {"refused": 0.5}
        statuses = [
            WEB.post(f"{url}/v1/predictions", json={"version": "abc", "input": {"prompt": f"hill {n}"}}).status_code
            for n in range(40)
        ]
        assert WEB.put(f"{url}/emulator/faults", json={}).json()["rates"] == {}
        assert WEB.post(f"{url}/v1/predictions", json=body).status_code == 201
        return statuses

    first, again, other = failures(1), failures(1), failures(2)
    assert first == again != other
    assert 5 < first.count(422) < 35


@pytest.mark.parametrize("body", [{"unheard_of": 0.5}, {"failed": 2}, {"failed": "often"}, ["failed"]])
def test_rates_that_make_no_sense_are_refused_and_change_nothing(emulator: str, body: object) -> None:
    before = WEB.get(f"{emulator}/emulator/faults").json()
    assert WEB.put(f"{emulator}/emulator/faults", json=body).status_code == 422
    assert WEB.get(f"{emulator}/emulator/faults").json() == before


def test_a_read_error_rate_strikes_reads_only(start: Callable[..., str]) -> None:
    url = start(fault_rates={"read_error": 1.0})
    client = client_of(url)
    made = create(client, "calm hills")
    with pytest.raises(ReplicateError) as raised:
        client.predictions.get(made.id)
    assert raised.value.status == 500
    with pytest.raises(ReplicateError):
        client.predictions.list()


def test_a_file_rate_spoils_some_outputs_for_good_and_leaves_the_others(start: Callable[..., str]) -> None:
    client = client_of(start(fault_rates={"expired_output": 0.4}))
    made = [create(client, f"hill {number}", num_outputs=4) for number in range(8)]
    urls = [url for prediction in made for url in finished(client, prediction).output]
    first = [WEB.get(url).status_code for url in urls]
    assert first == [WEB.get(url).status_code for url in urls]
    assert 4 < first.count(404) < 24
    sets = {tuple(first[start : start + 4]) for start in range(0, 32, 4)}
    assert len(sets) > 2, "each output of each prediction has its own luck"
