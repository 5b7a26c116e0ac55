from __future__ import annotations

from collections.abc import Callable

import pytest
import replicate
from replicate.exceptions import ReplicateError

from tests.emulator.helpers import WEB, Receiver, client_of, finished, until

BASE = "ostris/flux-dev-lora-trainer:" + "e" * 64
IMAGES = {"input_images": "https://example.org/data.zip", "trigger_word": "MARA"}


def test_a_training_gives_a_version_that_predictions_can_use(client: replicate.Client, receiver: Receiver) -> None:
    made = client.trainings.create(
        version=BASE,
        input=IMAGES,
        destination="mara/portraits",
        webhook=receiver.address(),
        webhook_events_filter=["completed"],
    )
    assert made.status == "starting"
    got = receiver.wait_for(made.id, 1)
    assert got[0].is_genuine(client.webhooks.default.secret().key)
    done = client.trainings.get(made.id)
    assert done.status == "succeeded"
    assert done.output["version"] == got[0].body["output"]["version"]
    model, _, version = done.output["version"].partition(":")
    assert (model, done.destination, len(version)) == ("mara/portraits", "mara/portraits", 64)
    assert client.models.get("mara/portraits").latest_version.id == version
    picture = client.predictions.create(version=version, input={"prompt": "MARA on a hill"})
    assert finished(client, picture).status == "succeeded"


def test_a_training_can_be_cancelled_and_listed(start: Callable[..., str]) -> None:
    client = client_of(start(training_latency_min_s=30, training_latency_max_s=30))
    made = client.trainings.create(version=BASE, input=IMAGES, destination="mara/portraits")
    assert client.trainings.cancel(made.id).status == "canceled"
    assert [training.id for training in client.trainings.list()] == [made.id]
    assert client.predictions.list().results == []


def test_a_strict_emulator_wants_the_destination_to_exist(start: Callable[..., str]) -> None:
    client = client_of(start(destinations_must_exist=True))
    with pytest.raises(ReplicateError) as raised:
        client.trainings.create(version=BASE, input=IMAGES, destination="mara/portraits")
    assert raised.value.status == 404
    client.models.create(owner="mara", name="portraits", visibility="private", hardware="gpu-t4")
    assert client.trainings.create(version=BASE, input=IMAGES, destination="mara/portraits").status == "starting"
    with pytest.raises(ReplicateError):
        client.models.create(owner="mara", name="portraits", visibility="private", hardware="gpu-t4")


def test_a_training_can_fail_on_demand(emulator: str) -> None:
    answer = WEB.post(
        f"{emulator}/v1/models/ostris/trainer/versions/abc/trainings",
        json={"input": IMAGES, "destination": "mara/portraits"},
        headers={"x-emulator-fault": "failed"},
    )
    assert answer.status_code == 201
    url = answer.json()["urls"]["get"]
    assert until(lambda: WEB.get(url).json()["status"] == "failed", "failed")
    assert WEB.get(url).json()["output"] is None
