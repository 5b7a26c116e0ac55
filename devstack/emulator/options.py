"""The emulator's options: one frozen value, checked once."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from devstack.emulator.faults import checked_rates
from models.errors import WrongUse

# For machines nobody else reaches; a real deployment sets its own secret.
LOCAL_WEBHOOK_SECRET = "whsec_" + base64.b64encode(hashlib.sha256(b"darkroom emulator").digest()).decode()


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """How the emulator behaves. Times in seconds, sizes in pixels or bytes. Raises WrongUse if one cannot work."""

    seed: int = 1
    latency_min_s: float = 0.5
    latency_max_s: float = 2.0
    training_latency_min_s: float = 3.0
    training_latency_max_s: float = 6.0
    api_token: str = ""  # empty: any token or none will do
    webhook_secret: str = LOCAL_WEBHOOK_SECRET
    public_url: str = ""  # empty: file URLs start with the address the client called
    per_minute: int = 0  # creations a minute before 429; 0: no limit
    output_expiry_s: float = 3600.0
    long_side_px: int = 768
    distinct_pictures: int = 0  # above 0: that many are drawn, and stamped so that all files differ
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    retry_after_s: int = 2
    slow_answer_s: float = 15.0
    slow_download_s: float = 30.0
    late_webhook_s: float = 5.0
    webhook_attempts_max: int = 6
    webhook_backoff_s: float = 0.5
    webhook_backoff_max_s: float = 30.0
    webhook_timeout_s: float = 10.0
    webhooks_at_once_max: int = 64
    webhooks_waiting_max: int = 20_000
    predictions_max: int = 200_000
    cache_bytes_max: int = 64 << 20
    drawing_threads: int = 2
    destinations_must_exist: bool = False  # as the real API: a training's destination is created first

    def __post_init__(self) -> None:
        for low, high, what in (
            (self.latency_min_s, self.latency_max_s, "latency"),
            (self.training_latency_min_s, self.training_latency_max_s, "training latency"),
        ):
            if not 0 <= low <= high <= 86_400:
                raise WrongUse(f"{what}: {low} to {high} s is not a range from 0 to 86400")
        for name, low, high in _BOUNDS:
            if not low <= getattr(self, name) <= high:
                raise WrongUse(f"{name}: {getattr(self, name)} is not from {low} to {high}")
        checked_rates(self.fault_rates)
        if not self.webhook_secret.startswith("whsec_") or not _is_base64(self.webhook_secret[6:]):
            raise WrongUse("webhook secret: must be whsec_ and base64")


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("per_minute", 0, 10_000_000),
    ("output_expiry_s", 0, 86_400 * 365),
    ("long_side_px", 64, 2048),
    ("distinct_pictures", 0, 10_000),
    ("retry_after_s", 1, 3600),
    ("slow_answer_s", 0, 600),
    ("slow_download_s", 0, 600),
    ("late_webhook_s", 0, 86_400),
    ("webhook_attempts_max", 1, 100),
    ("webhook_backoff_s", 0.001, 3600),
    ("webhook_backoff_max_s", 0.001, 3600),
    ("webhook_timeout_s", 0.05, 600),
    ("webhooks_at_once_max", 1, 1000),
    ("webhooks_waiting_max", 1, 1_000_000),
    ("predictions_max", 1, 2_000_000),
    ("cache_bytes_max", 0, 4 << 30),
    ("drawing_threads", 1, 64),
)


def _is_base64(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) >= 16
    except binascii.Error:
        return False
