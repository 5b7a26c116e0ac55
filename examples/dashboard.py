"""Print every completion as it comes: `python examples/dashboard.py [STATE_FILE]`.

With a file it goes on where it stopped, so that nothing is missed while it is away. Reads DARKROOM_KAFKA, which
`eval "$(darkroom stack env)"` sets.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from streams import DarkroomClient


async def main(state: Path | None) -> None:
    position = state.read_text() if state is not None and state.exists() else None
    async with DarkroomClient(kafka=os.environ["DARKROOM_KAFKA"]) as client:
        async for event in client.events(types=["completed"], position=position):
            body = event.body
            print(f"{event.time} {body['user_id']} {body['request_id']}: {len(body['images'])} pictures", flush=True)
            if state is not None:
                # After the work, not before it: whoever is killed in between does it again.
                state.write_text(event.position)


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    except KeyboardInterrupt:
        print("stopped")
