"""The same over HTTP with nothing but httpx: `python examples/http_client.py USER PROMPT`.

Reads DARKROOM_GATEWAY (127.0.0.1:8400) and DARKROOM_TOKEN, a token of `darkroom tokens create --scope producer`.
"""

from __future__ import annotations

import os
import sys
import time
import uuid

import httpx

GATEWAY = f"http://{os.environ.get('DARKROOM_GATEWAY', '127.0.0.1:8400')}"
TIMEOUT_S = 120.0


def main(user_id: str, prompt: str) -> int:
    headers = {"authorization": f"Bearer {os.environ['DARKROOM_TOKEN']}"}
    # Made once: the same id again is the same request, so any call here may be repeated.
    request_id = f"request-{uuid.uuid4().hex}"
    deadline = time.monotonic() + TIMEOUT_S
    with httpx.Client(base_url=GATEWAY, headers=headers, timeout=30) as client:
        body = {"user_id": user_id, "operation": "maya.image", "prompt": prompt}
        asking = {"idempotency-key": request_id, "prefer": "wait=20"}
        while (answer := client.post("/v1/generations", json=body, headers=asking)).status_code == 503:
            time.sleep(int(answer.headers.get("retry-after", 2)))
        found = answer.json()
        if answer.status_code != 202:  # 402, 409, 422 or 429: a problem document (RFC 9457)
            print(f"{found['code']}: {found['detail']}")
            return 1
        print(f"{found['state']}: {request_id}")
        while time.monotonic() < deadline:
            view = client.get(f"/v1/generations/{request_id}", params={"user": user_id}).json()
            if view.get("state") == "completed":
                for image in view["images"]:
                    print(f"{image['url']}  {image['width']}x{image['height']}")
                return 0
            if view.get("state") in ("failed", "cancelled", "rejected"):
                print(f"{view['reason']}: {view.get('message', '')}")
                return 1
            time.sleep(0.5)
    print("not finished in time")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
