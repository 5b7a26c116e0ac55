"""Sends webhooks: in order per prediction, a bounded number at once, again with backoff when not taken."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from devstack.emulator.options import EmulatorOptions
from devstack.emulator.posting import NotDelivered, Poster
from devstack.emulator.webhook_plan import Shipment, Signer


@dataclass(frozen=True, slots=True)
class Message:
    """One webhook: the same id and body at every try."""

    url: str
    id: str
    body: bytes
    shipment: Shipment


class WebhookSender:
    """Deliveries live in tasks of this object; `stop` drops what is still waiting, as a crash would."""

    def __init__(self, options: EmulatorOptions, totals: Counter[str]) -> None:
        self._options = options
        self._totals = totals
        self._signer = Signer(options.webhook_secret)
        self._at_once = asyncio.Semaphore(options.webhooks_at_once_max)
        self._waiting: set[asyncio.Task[None]] = set()
        self._poster = Poster(options.webhook_timeout_s)

    def send(self, message: Message, after: asyncio.Future[None] | None) -> asyncio.Future[None]:
        """Starts a delivery; the future is done after its first try. `after`: the one it must not overtake."""
        tried: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= self._options.webhooks_waiting_max:
            self._totals["webhooks_dropped"] += 1
            tried.set_result(None)
            return tried
        task = asyncio.create_task(self._deliver(message, after, tried))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return tried

    async def stop(self) -> None:
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        self._poster.close()

    async def _deliver(self, message: Message, after: asyncio.Future[None] | None, tried: asyncio.Future[None]) -> None:
        options = self._options
        try:
            if message.shipment.delay_s:
                await asyncio.sleep(message.shipment.delay_s)
            elif after is not None and message.shipment.in_order:
                await asyncio.wait([after], timeout=options.webhook_timeout_s)
            pause_s = options.webhook_backoff_s
            for attempt in range(options.webhook_attempts_max if message.shipment.retried else 1):
                if attempt:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, options.webhook_backoff_max_s)
                if await self._try_once(message):
                    return
                if not tried.done():
                    tried.set_result(None)
            self._totals["webhooks_given_up"] += 1
        finally:
            if not tried.done():
                tried.set_result(None)

    async def _try_once(self, message: Message) -> bool:
        signed_at = datetime.now(UTC) - timedelta(seconds=message.shipment.signed_ago_s)
        headers = self._signer.headers(message.id, signed_at, message.body, message.shipment.forged)
        self._totals["webhooks_tried"] += 1
        try:
            async with self._at_once:
                status = await self._poster.post(message.url, message.body, headers)
        except NotDelivered:
            self._totals["webhooks_unanswered"] += 1
            return False
        taken = 200 <= status < 300
        self._totals["webhooks_taken" if taken else "webhooks_refused"] += 1
        return taken
