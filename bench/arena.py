"""Servers and what is made fresh on them: databases from a template, topics with a prefix of their own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from adapters.migrate import migrate
from bench.oracle import Topics
from bench.workload import book_credits
from devstack.roster import read_roster
from models import topics as names
from streams.settings import Settings
from streams.topics import apply_topics


@dataclass(frozen=True)
class Round:
    """Fresh topics and a fresh database for one contestant. Rounds of a pair share the input topic."""

    settings: Settings
    topics: Topics


class Arena:
    """Makes rounds on running servers and clears them away."""

    def __init__(self, settings: Settings, users: int) -> None:
        self.settings = settings
        self.users = users
        self.run = f"bench{uuid.uuid4().hex[:8]}"
        self._rounds = 0
        self._databases: list[str] = []

    async def open(self) -> None:
        """Make the template: migrated, with every user's credits booked."""
        template = await self._create_database(f"{self.run}_template")
        migrate(template)
        await book_credits(template, self.users)

    async def close(self) -> None:
        """Drop everything made here."""
        for name in reversed(self._databases):
            await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await self._delete_topics(self.run)

    async def new_round(self, requested: str | None = None) -> Round:
        """A database and topics; `requested` is an input topic to be shared instead of a new one."""
        self._rounds += 1
        postgres = await self._create_database(f"{self.run}_{self._rounds}", f"{self.run}_template")
        prefix = f"{self.run}-{self._rounds}-"
        settings = self.settings.model_copy(update={"postgres": postgres, "topic_prefix": prefix})
        await apply_topics(settings)
        await self._execute("CHECKPOINT")
        topics = Topics(
            requested=requested or prefix + names.REQUESTED,
            admitted=prefix + names.ADMITTED,
            rejected=prefix + names.REJECTED,
            credits=prefix + names.CREDITS,
        )
        return Round(settings, topics)

    async def close_round(self, finished: Round) -> None:
        """Drop the round's database; it should not cost the next one anything."""
        name = urlsplit(finished.settings.require("postgres")).path.lstrip("/")
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def delete_topics_of(self, finished: Round) -> None:
        """Delete the round's topics."""
        await self._delete_topics(finished.settings.topic_prefix)

    def server_pids(self) -> dict[str, int]:
        """Process ids of embedded servers, by field; those that run elsewhere are left out."""
        path = Path(self.settings.home).absolute() / "stack.json"
        return {field: entry.pid for field, entry in read_roster(path).items()}

    async def _create_database(self, name: str, template: str = "template1") -> str:
        self._databases.append(name)
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return urlunsplit(urlsplit(self.settings.require("postgres"))._replace(path=f"/{name}"))

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.settings.require("postgres"), timeout=10, command_timeout=120)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _delete_topics(self, prefix: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.require("kafka"), request_timeout_ms=20_000)
        try:
            await admin.start()
            doomed = [name for name in await admin.list_topics() if name.startswith(prefix)]
            if doomed:
                await admin.delete_topics(doomed)
        finally:
            await admin.close()
