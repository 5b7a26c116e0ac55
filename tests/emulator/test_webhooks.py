"""Webhooks, checked with the validator that clients of the real provider use."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import replicate

from tests.emulator.helpers import WEB, Receiver, client_of, finished, until, webhook_receiver

COMPLETED = ["completed"]


def test_webhooks_come_in_order_and_are_genuine(client: replicate.Client, receiver: Receiver) -> None:
    secret = client.webhooks.default.secret().key
    made = client.predictions.create(version="abc", input={"prompt": "hills"}, webhook=receiver.address())
    got = receiver.wait_for(made.id, 4)
    assert [webhook.body["status"] for webhook in got] == ["processing", "processing", "processing", "succeeded"]
    assert all(webhook.is_genuine(secret) for webhook in got)
    assert len({webhook.headers["webhook-id"] for webhook in got}) == 4
    assert got[-1].body == client.predictions.get(made.id).dict() | got[-1].body
    assert not got[-1].is_genuine("whsec_" + "A" * 32)


@pytest.mark.parametrize(
    ("wanted", "statuses"),
    [
        (["completed"], ["succeeded"]),
        (["start", "completed"], ["processing", "succeeded"]),
        (["start"], ["processing"]),
        ([], []),
    ],
)
def test_only_the_events_asked_for_are_sent(
    client: replicate.Client, receiver: Receiver, wanted: list[str], statuses: list[str]
) -> None:
    made = client.predictions.create(
        version="abc", input={"prompt": "hills"}, webhook=receiver.address(), webhook_events_filter=wanted
    )
    finished(client, made)
    until(lambda: len(receiver.of(made.id)) >= len(statuses), "the webhooks")
    assert receiver.statuses(made.id) == statuses


def test_a_cancelled_prediction_announces_itself(start: Callable[..., str], receiver: Receiver) -> None:
    client = client_of(start(latency_min_s=30, latency_max_s=30))
    made = client.predictions.create(
        version="abc", input={"prompt": "hills"}, webhook=receiver.address(), webhook_events_filter=COMPLETED
    )
    client.predictions.cancel(made.id)
    assert until(lambda: receiver.statuses(made.id), "the webhook") == ["canceled"]


def test_a_completed_webhook_that_is_not_taken_comes_again_under_the_same_id(start: Callable[..., str]) -> None:
    client = client_of(start(webhook_backoff_s=0.1))
    with webhook_receiver() as receiver:
        receiver.answers[:] = [500, 503]
        made = client.predictions.create(
            version="abc", input={"prompt": "hills"}, webhook=receiver.address(), webhook_events_filter=COMPLETED
        )
        got = receiver.wait_for(made.id, 3)
    assert len({webhook.headers["webhook-id"] for webhook in got}) == 1
    pauses = [later.at - earlier.at for earlier, later in pairwise(got)]
    assert pauses[0] > 0.09
    assert pauses[1] > 0.18
    assert all(webhook.is_genuine(client.webhooks.default.secret().key) for webhook in got)


def test_a_webhook_nobody_takes_is_given_up(start: Callable[..., str]) -> None:
    url = start(webhook_attempts_max=2, webhook_backoff_s=0.01)
    client = client_of(url)
    client.predictions.create(version="abc", input={"prompt": "x"}, webhook="http://127.0.0.1:9/x")
    totals = until(
        lambda: (
            (found := WEB.get(f"{url}/emulator/counts").json()["totals"]).get("webhooks_given_up", 0) >= 4 and found
        ),
        "giving up",
    )
    assert totals["webhooks_tried"] == 5  # start, logs and output once, completed twice


def test_one_slow_endpoint_does_not_hold_up_another(start: Callable[..., str], receiver: Receiver) -> None:
    client = client_of(start(webhook_timeout_s=5.0))
    client.predictions.create(version="abc", input={"prompt": "x"}, webhook="http://10.255.255.1/never")
    made = client.predictions.create(version="abc", input={"prompt": "y"}, webhook=receiver.address())
    assert until(lambda: len(receiver.of(made.id)) == 4, "the webhooks", 3.0)


def test_a_configured_secret_signs(start: Callable[..., str], receiver: Receiver) -> None:
    secret = "whsec_" + "c2VjcmV0" * 4
    client = client_of(start(webhook_secret=secret))
    made = client.predictions.create(version="abc", input={"prompt": "x"}, webhook=receiver.address())
    got = until(lambda: receiver.of(made.id), "a webhook")
    assert got[0].is_genuine(secret)
    assert client.webhooks.default.secret().key == secret


def test_a_webhook_does_not_overtake_an_earlier_one_of_its_prediction(client: replicate.Client) -> None:
    with webhook_receiver() as slow:
        slow.pause_s = 0.25
        made = client.predictions.create(
            version="abc",
            input={"prompt": "x"},
            webhook=slow.address(),
            webhook_events_filter=["start", "completed"],
        )
        start, completed = slow.wait_for(made.id, 2)
    assert completed.at - start.at >= 0.25
