"""What the emulator's tests share: waiting with a deadline, and an endpoint that receives webhooks."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import httpx
import replicate
from replicate.webhook import Webhooks, WebhookSigningSecret

DEADLINE_S = 8.0
_NO_TLS = False  # nothing here speaks TLS, and a context takes longer to make than a test
WEB = httpx.Client(timeout=10.0, trust_env=False)
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first true value of the condition."""
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        pause.wait(0.01)


def client_of(url: str, token: str = "token") -> replicate.Client:
    return replicate.Client(api_token=token, base_url=url, timeout=httpx.Timeout(10.0), verify=_NO_TLS)


def finished(client: replicate.Client, prediction: Any) -> Any:
    """The prediction, read again until it is over."""

    def over() -> Any:
        found = client.predictions.get(prediction.id)
        return found if found.status in ("succeeded", "failed", "canceled") else None

    return until(over, f"prediction {prediction.id} is over")


@dataclass
class Received:
    """One webhook as it came in."""

    path: str
    headers: dict[str, str]
    raw: str
    at: float

    @property
    def body(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.raw)
        return decoded

    def is_genuine(self, secret: str, tolerance_s: int = 300) -> bool:
        """What replicate's own validator says."""
        try:
            Webhooks.validate(
                headers=self.headers, body=self.raw, secret=WebhookSigningSecret(key=secret), tolerance=tolerance_s
            )
        except ValueError:
            return False
        return True


@dataclass
class Receiver:
    """A webhook endpoint; `answers` are the statuses of the next calls, 200 when they are used up.

    `pause_s` is how long it takes to answer any call.
    """

    url: str
    received: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    pause_s: float = 0.0

    def address(self, user: str = "mara", request: str | None = None) -> str:
        return f"{self.url}/v1/webhooks/replicate?user={user}&request={request or uuid.uuid4().hex}"

    def of(self, prediction_id: str) -> list[Received]:
        return [webhook for webhook in self.received if webhook.body["id"] == prediction_id]

    def wait_for(self, prediction_id: str, count: int) -> list[Received]:
        """The prediction's webhooks once there are so many; more than that is a failure."""
        until(lambda: len(self.of(prediction_id)) >= count, f"{count} webhooks")
        assert len(self.of(prediction_id)) == count
        return self.of(prediction_id)

    def statuses(self, prediction_id: str) -> list[str]:
        return [webhook.body["status"] for webhook in self.of(prediction_id)]


@contextmanager
def webhook_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"])).decode()
            receiver.received.append(Received(self.path, dict(self.headers), raw, time.monotonic()))
            threading.Event().wait(receiver.pause_s)
            self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
