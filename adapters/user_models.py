"""Users' own models: one a user, that of the training that was admitted last."""

from __future__ import annotations

from collections.abc import Collection

from adapters.postgres import Connection
from adapters.queries import load_queries
from models.training import UserModel

_sql = load_queries("user_models")


async def write_user_models(connection: Connection, models: Collection[UserModel]) -> None:
    """Write at most one model a user; one of a later training stays."""
    if not models:
        return
    await connection.execute(
        _sql["write_user_models"],
        [model.user_id for model in models],
        [model.version for model in models],
        [model.trigger_word for model in models],
        [model.request_id for model in models],
        [model.admitted_at_ms for model in models],
    )
