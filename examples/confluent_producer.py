"""Ask for a picture with another Kafka client and nothing of Darkroom.

`python examples/confluent_producer.py USER PROMPT` reads DARKROOM_KAFKA, which `eval "$(darkroom stack env)"` sets.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from typing import Any

from confluent_kafka import Producer

TOPIC = os.environ.get("DARKROOM_TOPIC_PREFIX", "") + "generations.requested.v1"


def main(user_id: str, prompt: str) -> int:
    producer = Producer(
        {
            "bootstrap.servers": os.environ["DARKROOM_KAFKA"],
            # As the Java client does it. The default of librdkafka puts users into other partitions.
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "delivery.timeout.ms": 30_000,
        }
    )
    request = {
        "request_id": f"request-{uuid.uuid4().hex}",
        "user_id": user_id,
        "operation": "maya.image",
        "prompt": prompt,
        "options": {"aspect_ratio": "4:5"},
    }
    undelivered = [request["request_id"]]

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            print(f"not delivered: {error}")
            return
        undelivered.clear()
        print(f"{request['request_id']} is in partition {message.partition()} at offset {message.offset()}")

    # The key is the user: all that is decided about one user is decided in one partition, in order.
    producer.produce(TOPIC, json.dumps(request).encode(), key=user_id.encode(), on_delivery=delivered)
    producer.flush(30)
    return 1 if undelivered else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
