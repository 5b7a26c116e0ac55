"""What an audit asks the emulator."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from tests.emulator.helpers import WEB, client_of, finished


def test_a_request_that_was_paid_for_twice_is_shown(start: Callable[..., str]) -> None:
    url = start()
    client = client_of(url)
    once, twice = uuid.uuid4().hex, uuid.uuid4().hex
    made = {
        request: [
            client.predictions.create(
                version="abc",
                input={"prompt": "hills"},
                webhook=f"http://127.0.0.1:9/hook?user=mara&request={request}",
                webhook_events_filter=["completed"],
            ).id
            for _ in range(times)
        ]
        for request, times in ((once, 1), (twice, 2))
    }
    client.predictions.create(version="abc", input={"prompt": "no webhook"})
    report = WEB.get(f"{url}/emulator/counts").json()
    assert report["requests"] == {f"mara/{once}": made[once], f"mara/{twice}": made[twice]}
    assert report["paid_twice"] == {f"mara/{twice}": made[twice]}
    assert report["complete"] is True
    assert report["totals"]["predictions_created"] == 4
    short = WEB.get(f"{url}/emulator/counts?requests=false").json()
    assert "requests" not in short
    assert short["paid_twice"]


def test_statuses_and_files_are_counted(start: Callable[..., str]) -> None:
    url = start()
    client = client_of(url)
    done = finished(client, client.predictions.create(version="abc", input={"prompt": "hills"}))
    finished(client, client.predictions.create(version="abc", input={"prompt": "[[fault:failed]]"}))
    for _ in range(2):
        WEB.get(done.output[0])
    report = WEB.get(f"{url}/emulator/counts").json()
    assert report["statuses"]["predictions"]["succeeded"] == 1
    assert report["statuses"]["predictions"]["failed"] == 1
    assert report["totals"]["fault_failed"] == 1
    assert (report["totals"]["files_drawn"], report["totals"]["files_served"]) == (1, 2)


def test_the_oldest_predictions_are_dropped_at_the_bound_and_it_says_so(start: Callable[..., str]) -> None:
    url = start(predictions_max=3)
    client = client_of(url)
    ids = [
        client.predictions.create(
            version="abc", input={"prompt": "x"}, webhook=f"http://127.0.0.1:9/?user=u&request={number}"
        ).id
        for number in range(5)
    ]
    assert [prediction.id for prediction in client.predictions.list()] == ids[:1:-1]
    assert WEB.get(f"{url}/v1/predictions/{ids[0]}").status_code == 404
    report = WEB.get(f"{url}/emulator/counts").json()
    assert report["complete"] is False
    assert len(report["requests"]) == 3
