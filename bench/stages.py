"""Where a request's time went, stage by stage, from the times that its row carries."""

from __future__ import annotations

import asyncpg

_STAGES = """
SELECT percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY queued_at - admitted_at) AS queueing,
       percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY submitted_at - queued_at) AS dispatching,
       percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY storing_at - submitted_at) AS at_the_provider,
       percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY finished_at - storing_at) AS keeping
  FROM (SELECT * FROM generations WHERE state = 'completed' ORDER BY admitted_at DESC LIMIT $1) AS newest
"""


async def stage_times(postgres_url: str, requests: int) -> dict[str, list[float]]:
    """[median, 99 of 100] of the newest requests, in ms. `at_the_provider` holds its runs, the calls and webhooks."""
    connection = await asyncpg.connect(postgres_url, timeout=10, command_timeout=60)
    try:
        row = await connection.fetchrow(_STAGES, requests)
    finally:
        await connection.close()
    return {name: [round(time.total_seconds() * 1000, 1) for time in times] for name, times in (row or {}).items()}
