"""Generations on their way from queued to their end, and the gallery rows they leave."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from adapters.postgres import Connection
from adapters.queries import load_queries
from models.facts import ImagesStored
from models.gallery import GalleryRow
from models.lifecycle import ENDED, State
from models.requests import Options
from models.settlement import Generation

_sql = load_queries("generations")
_options = msgspec.json.Decoder(Options)


async def queue_generations(connection: Connection, traces: Mapping[tuple[str, str], str | None]) -> None:
    """admitted -> queued for these (user_id, request_id), with the trace that each came with; others are left as they
    are."""
    await connection.execute(
        _sql["queue"], [user for user, _ in traces], [request for _, request in traces], list(traces.values())
    )


async def lock_generations(
    connection: Connection, identities: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Generation]:
    """Lock these rows in key order until the transaction ends; unknown ones are left out."""
    rows = await connection.fetch(
        _sql["lock_generations"], [user for user, _ in identities], [request for _, request in identities]
    )
    return {
        (row["user_id"], row["request_id"]): Generation(
            row["user_id"],
            row["request_id"],
            row["operation"],
            State(row["state"]),
            row["cost"],
            row["refunded"],
            row["prediction_id"],
            row["prompt"],
            row["admitted_at_ms"],
            _options.decode(row["options"]),
            traceparent=row["traceparent"],
        )
        for row in rows
    }


async def write_settled(connection: Connection, generations: Collection[Generation]) -> None:
    """Write the states that facts have led to."""
    if not generations:
        return
    await connection.execute(
        _sql["settle_generations"],
        [row.user_id for row in generations],
        [row.request_id for row in generations],
        [row.state.value for row in generations],
        [row.prediction_id for row in generations],
        [None if row.output_urls is None else msgspec.json.encode(row.output_urls).decode() for row in generations],
        [row.refunded for row in generations],
        [row.reason for row in generations],
        [row.state in ENDED for row in generations],
    )


async def write_gallery(
    connection: Connection,
    completed: Sequence[tuple[Generation, ImagesStored]],
    rows: Sequence[GalleryRow],
    images_url: str,
) -> None:
    """One generated_images row per completed generation, one row of ai_images or videos per stored output."""
    if completed:
        await connection.execute(
            _sql["write_generated"],
            [generation.user_id for generation, _ in completed],
            [generation.request_id for generation, _ in completed],
            [generation.operation for generation, _ in completed],
            [generation.prompt for generation, _ in completed],
            [stored.prediction_id for _, stored in completed],
            [len(stored.images) for _, stored in completed],
            [generation.cost for generation, _ in completed],
            [generation.refunded for generation, _ in completed],
        )
    pictures = [row for row in rows if not row.is_video]
    if pictures:
        await connection.execute(
            _sql["write_pictures"], *_columns(pictures), [row.image.thumbnail_key for row in pictures], images_url
        )
    videos = [row for row in rows if row.is_video]
    if videos:
        await connection.execute(_sql["write_videos"], *_columns(videos), images_url)


def _columns(rows: Sequence[GalleryRow]) -> tuple[list[object], ...]:
    """What rows of both tables have, in the order of the queries' parameters."""
    return (
        [row.image_id for row in rows],
        [row.user_id for row in rows],
        [row.request_id for row in rows],
        [row.prediction_id for row in rows],
        [row.output_index for row in rows],
        [row.operation for row in rows],
        [row.source for row in rows],
        [row.prompt for row in rows],
        [row.image.key for row in rows],
        [row.image.width for row in rows],
        [row.image.height for row in rows],
        [row.image.content_type for row in rows],
        [row.image.bytes for row in rows],
        [row.image.sha256 for row in rows],
    )
