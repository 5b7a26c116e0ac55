"""Which webhooks an event causes, faults included. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from standardwebhooks import Webhook

from devstack.emulator.faults import Fault

STALE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Shipment:
    """One webhook to send: after `delay_s`, signed as if `signed_ago_s` ago, or with a key that is not ours."""

    delay_s: float = 0.0
    signed_ago_s: float = 0.0
    forged: bool = False
    in_order: bool = True
    retried: bool = False


def shipments_for(event: str, faults: frozenset[Fault], late_s: float) -> list[Shipment]:
    """In the order in which they are to leave; empty when the webhook is to go missing.

    Only the completed webhook is sent again when it is not taken, as at the real provider.
    """
    if Fault.MISSING_WEBHOOK in faults:
        return []
    late = event == "completed" and Fault.LATE_WEBHOOK in faults
    genuine = Shipment(delay_s=late_s if late else 0.0, in_order=not late, retried=event == "completed")
    planned = [Shipment(forged=True)] if Fault.FORGED_WEBHOOK in faults else []
    planned.append(genuine)
    if Fault.DUPLICATE_WEBHOOK in faults:
        planned.append(genuine)
    if Fault.STALE_WEBHOOK in faults:
        planned.append(Shipment(signed_ago_s=STALE_S))
    return planned


def forged_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a liar would say: failed, so that somebody gets a refund for pictures that were made."""
    return {**body, "status": "failed", "output": None, "error": "forged"}


def message_id_of(prediction_id: str, event: str, number: int) -> str:
    """The same for every try of one webhook, different for every webhook."""
    return "msg_" + hashlib.blake2b(f"{prediction_id}/{event}/{number}".encode(), digest_size=16).hexdigest()


class Signer:
    """Signs as the standard-webhooks scheme says. `forged` uses a key that nobody was given."""

    def __init__(self, secret: str) -> None:
        self._ours = Webhook(secret)
        self._other = Webhook(hashlib.sha256(b"not " + secret.encode()).digest())

    def headers(self, message_id: str, signed_at: datetime, body: bytes, forged: bool) -> dict[str, str]:
        """The headers of one try; `signed_at` in UTC, the body exactly as it is sent."""
        signer = self._other if forged else self._ours
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(signed_at.timestamp())),
            "webhook-signature": signer.sign(message_id, signed_at, body.decode()),
        }
