"""A worker role as a Faust app: one process, one consumer group, its agents on lanes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import faust
from mode import CrashingSupervisor

from streams.lane import LaneScheduler
from streams.lanes import LaneHandler, Lanes
from streams.settings import Settings

REQUEST_TIMEOUT_S = 15.0


class LaneSchema(faust.Schema):
    """Lets a lane through to the agent untouched: bytes are decoded by the step, not by Faust."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value


class RoleApp(faust.App):
    """Faust configured so that nothing is acked, lost or created behind our back (docs: Faust's traps)."""

    lanes: Lanes

    def lane_agent(self, name: str, topic: str, handler: LaneHandler) -> None:
        """Run a handler on every partition of a topic that this worker owns."""
        self.lanes.add(topic, handler)

        async def agent(stream: Any) -> None:
            lanes: AsyncIterator[Any] = stream.noack().events()
            async for event in lanes:
                event.value.start()

        channel = self.topic(topic, schema=LaneSchema(), partitions=None)
        self.agent(channel, name=name, supervisor_strategy=CrashingSupervisor)(agent)


def role_app(role: str, settings: Settings) -> RoleApp:
    """The app of one role. `settings.kafka` must be known."""
    lanes = Lanes(
        records_max=settings.step_records_max, bytes_max=settings.lane_bytes_max, topic_prefix=settings.topic_prefix
    )
    bootstrap = settings.require("kafka").split(",")
    data = Path(settings.home) / "faust" / role
    data.mkdir(parents=True, exist_ok=True)
    app = RoleApp(
        f"{settings.topic_prefix}darkroom-{role}",
        broker=[f"lane://{address}" for address in bootstrap],
        store="memory://",
        datadir=str(data),
        ConsumerScheduler=partial(LaneScheduler, lanes),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 << 20,
        broker_max_poll_records=10_000,
        broker_commit_interval=1.0,
        # A request that was lost while a broker restarted is given up after this, not after Faust's 90 s.
        broker_request_timeout=max(REQUEST_TIMEOUT_S, settings.session_timeout_s * 2),
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 3,
        stream_wait_empty=False,
        stream_buffer_maxsize=1024,
        producer_threaded=False,
        processing_guarantee="at_least_once",
        web_enabled=False,
        web_tables_enabled=False,
        agent_supervisor=CrashingSupervisor,
    )
    app.lanes = lanes
    return app
