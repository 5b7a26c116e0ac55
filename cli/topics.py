"""`darkroom topics` and `darkroom migrate`: what must be there before a worker starts."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from cli.here import settings_here
from models.errors import DarkroomError

JsonFlag = Annotated[bool, typer.Option("--json", help="For a program to read.")]


class TopicsDiffer(DarkroomError):
    """The broker's topics are not as the registry says."""

    code = "topics_differ"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(help="The topic registry on the broker.", no_args_is_help=True)
    app.add_typer(topics, name="topics")

    @topics.command("apply")
    def apply_() -> None:
        """Create the topics that are missing."""
        from streams.topics import apply_topics

        created = asyncio.run(apply_topics(settings_here()))
        typer.echo("\n".join(f"created {name}" for name in created) or "all topics are there")

    @topics.command("check")
    def check() -> None:
        """Compare the broker's topics with the registry; exit 1 if they differ."""
        from streams.topics import check_topics

        problems = asyncio.run(check_topics(settings_here()))
        if problems:
            raise TopicsDiffer("; ".join(problems))
        typer.echo("all topics are as the registry says")

    @topics.command("list")
    def list_(as_json: JsonFlag = False) -> None:
        """Show the registry: every topic with its key, writers, readers and keeping."""
        from models.topics import TOPICS
        from streams.settings import load_settings

        partitions = load_settings().partitions
        rows: list[dict[str, Any]] = [
            {
                "name": topic.name,
                "key": topic.key,
                "writers": list(topic.writers),
                "readers": list(topic.readers),
                "partitions": partitions,
                "keeping": "compacted" if topic.compacted else f"{topic.retention_s // 86_400} d",
            }
            for topic in TOPICS.values()
        ]
        if as_json:
            typer.echo(json.dumps(rows))
            return
        for row in rows:
            route = f"{', '.join(row['writers'])} -> {', '.join(row['readers'])}"
            typer.echo(f"{row['name']:<28} key {row['key']:<13} {row['keeping']:<10} {route}")

    @app.command()
    def migrate() -> None:
        """Bring the database to the newest schema."""
        from adapters.migrate import migrate as run_migrations

        typer.echo(run_migrations(settings_here().require("postgres")) or "the schema is up to date")
