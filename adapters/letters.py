"""What has been done with dead letters: rows of dead_letter_actions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from adapters.postgres import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S, Connection, mapped_errors
from adapters.queries import load_queries
from models.letter_history import Action, History
from models.letters import Letter

_sql = load_queries("letters")


class LetterActions:
    """Reads and writes actions. Every method raises Unavailable."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, postgres_url: str) -> AsyncIterator[LetterActions]:
        """For the time of a command. Raises Unavailable."""
        with mapped_errors():
            connection = await asyncpg.connect(
                postgres_url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={"application_name": "darkroom-dead-letters", "timezone": "UTC"},
            )
        try:
            yield cls(connection)
        finally:
            try:
                await connection.close(timeout=CONNECT_TIMEOUT_S)
            except (OSError, TimeoutError):
                connection.terminate()

    async def history(self) -> History:
        """Everything that was ever done."""
        with mapped_errors():
            return _history(await self._connection.fetch(_sql["all_actions"]))

    @asynccontextmanager
    async def deciding(self, letter: Letter) -> AsyncIterator[History]:
        """A transaction in which nobody else acts on letters; gives the history of the letter's chain."""
        with mapped_errors():
            async with self._connection.transaction():
                await self._connection.execute(_sql["lock_actions"])
                rows = await self._connection.fetch(_sql["related_actions"], letter.letter_id, letter.redrive_id)
                yield _history(rows)

    async def add(self, action: Action) -> None:
        """Write down what is to be done, or was."""
        with mapped_errors():
            await self._connection.execute(
                _sql["insert_action"],
                action.action_id,
                action.letter_id,
                action.root_id,
                action.kind,
                action.attempt,
                action.reason,
                action.content,
                action.acted_by,
                action.note,
                action.to_topic,
            )

    async def settle(self, action_id: str, topic: str, partition: int, offset: int) -> None:
        """Write down where a redriven record is; `topic` as the broker calls it. The first word stays."""
        with mapped_errors():
            await self._connection.execute(_sql["settle_redrive"], action_id, topic, partition, offset)


def _history(rows: list[asyncpg.Record]) -> History:
    return History.of(Action(**dict(row)) for row in rows)
