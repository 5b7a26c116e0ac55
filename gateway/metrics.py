"""What the gateway counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from adapters.exposition import GATEWAY, measured_in

WEBHOOKS = Counter("darkroom_webhooks_total", "Webhooks from the provider by what became of them.", ("outcome",))
WEBHOOK_SECONDS = Histogram(
    "darkroom_webhook_seconds",
    "From a webhook's last byte to its answer.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
IMAGES_SERVED = Counter("darkroom_images_served_total", "Pictures by answer.", ("outcome",))
STREAMS_OPEN = Gauge("darkroom_event_streams_open", "Clients that follow events now.")
STREAMS_ENDED = Counter("darkroom_event_streams_ended_total", "Event streams that ended, by why.", ("reason",))
DECISION_SECONDS = Histogram(
    "darkroom_gateway_decision_seconds",
    "From a request's last byte to its answer, by the answer.",
    ("outcome",),
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
REFUSED = Counter("darkroom_gateway_refused_total", "Requests refused before any route saw them.", ("reason",))
CUT = Counter("darkroom_gateway_connections_cut_total", "Connections cut by why.", ("reason",))

measured_in(
    (GATEWAY,), REFUSED, CUT, WEBHOOKS, WEBHOOK_SECONDS, IMAGES_SERVED, STREAMS_OPEN, STREAMS_ENDED, DECISION_SECONDS
)
