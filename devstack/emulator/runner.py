"""Runs predictions: timers move them along the table, every move may cause webhooks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from devstack.emulator.faults import Fault
from devstack.emulator.lifecycle import MOVES, TERMINAL, Happening, Status
from devstack.emulator.options import EmulatorOptions
from devstack.emulator.predictions import Prediction, body_of
from devstack.emulator.webhook_plan import forged_body, message_id_of, shipments_for
from devstack.emulator.webhook_sender import Message, WebhookSender


class Runner:
    """Owns the timers. All state is the predictions' own, in one event loop: no locks."""

    def __init__(
        self,
        options: EmulatorOptions,
        sender: WebhookSender,
        totals: Counter[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._sender = sender
        self._totals = totals
        self._clock = clock

    def begin(self, prediction: Prediction) -> None:
        """Starts the run: it goes on whether or not anybody hears the answer."""
        if prediction.plan.ending is None:
            return
        self._later(prediction, prediction.plan.starting_s, self._started)

    def cancel(self, prediction: Prediction) -> None:
        """Ends it as canceled; one that is over stays as it is."""
        self._end(prediction, Happening.CANCELED)

    async def wait(self, prediction: Prediction, timeout_s: float) -> None:
        """Until it is over or the time is up, whichever comes first."""
        if prediction.status in TERMINAL:
            return
        prediction.done = prediction.done or asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await prediction.done.wait()
        except TimeoutError:
            return

    def _later(self, prediction: Prediction, delay_s: float, step: Callable[[Prediction], None]) -> None:
        prediction.timer = asyncio.get_running_loop().call_later(delay_s, step, prediction)

    def _started(self, prediction: Prediction) -> None:
        if prediction.plan.ending is Happening.ABORTED:
            self._end(prediction, Happening.ABORTED)
            return
        prediction.status = MOVES[prediction.status, Happening.STARTED]
        prediction.started_at = self._clock()
        self._announce(prediction, "start")
        self._later(prediction, prediction.plan.processing_s, self._finished)

    def _finished(self, prediction: Prediction) -> None:
        plan = prediction.plan
        if plan.ending is Happening.SUCCEEDED:
            prediction.outputs = plan.outputs
            self._announce(prediction, "logs")
            if plan.outputs:
                self._announce(prediction, "output")
        if plan.ending is not None:
            self._end(prediction, plan.ending)

    def _end(self, prediction: Prediction, happening: Happening) -> None:
        status = MOVES.get((prediction.status, happening))
        if status is None:
            return
        if prediction.timer is not None:
            prediction.timer.cancel()
            prediction.timer = None
        prediction.status = status
        prediction.completed_at = self._clock()
        prediction.error = prediction.plan.error if status in (Status.FAILED, Status.ABORTED) else None
        self._totals[f"{prediction.kind}_{status}"] += 1
        self._announce(prediction, "completed")
        if prediction.done is not None:
            prediction.done.set()

    def _announce(self, prediction: Prediction, event: str) -> None:
        if not prediction.webhook or event not in prediction.webhook_events:
            return
        body = body_of(prediction)
        if Fault.OUT_OF_ORDER_WEBHOOKS in prediction.faults and event != "completed":
            prediction.held_back.append((event, msgspec.json.encode(body)))
            return
        forged = Fault.FORGED_WEBHOOK in prediction.faults
        self._ship(
            prediction,
            event,
            msgspec.json.encode(body),
            msgspec.json.encode(forged_body(body)) if forged else b"",
        )
        for held_event, held_body in reversed(prediction.held_back):
            self._ship(prediction, held_event, held_body, held_body)
        prediction.held_back.clear()

    def _ship(self, prediction: Prediction, event: str, body: bytes, false_body: bytes) -> None:
        prediction.webhooks_sent += 1
        message_id = message_id_of(prediction.id, event, prediction.webhooks_sent)
        planned = shipments_for(event, prediction.faults, self._options.late_webhook_s)
        if not planned:
            self._totals["webhooks_withheld"] += 1
        for shipment in planned:
            message = Message(
                url=prediction.webhook,
                id=message_id + "f" if shipment.forged else message_id,
                body=false_body if shipment.forged else body,
                shipment=shipment,
            )
            prediction.last_attempted = self._sender.send(message, prediction.last_attempted)
