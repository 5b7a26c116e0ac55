"""`darkroom dead-letters`: what could not be handled: which, why, and what to do with it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.here import settings_here
from models.errors import DarkroomError, WrongUse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from models.letters import LetterFilter
    from streams.redrive import Outcome
    from streams.settings import Settings

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Letters, as `list` names them.")]
Reason = Annotated[str | None, typer.Option(help="Only letters of this reason, such as bad_json.")]
Topic = Annotated[str | None, typer.Option(help="Only records of this topic.")]
Since = Annotated[str | None, typer.Option(help="Not before: 2026-01-31T08:15:00Z, or 30m, 2h, 7d ago.")]
Until = Annotated[str | None, typer.Option(help="Before this moment.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="For a program to read.")]


class UnknownLetter(DarkroomError):
    """There is no letter of this id."""

    code = "unknown_letter"


class NotAllDone(DarkroomError):
    """Something that was asked for was not done."""

    code = "not_all_done"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    letters = typer.Typer(help="Records that could not be handled: look, redrive, drop.", no_args_is_help=True)
    app.add_typer(letters, name="dead-letters")

    @letters.command("list")
    def list_(
        reason: Reason = None,
        topic: Topic = None,
        since: Since = None,
        until: Until = None,
        with_closed: Annotated[bool, typer.Option("--all", help="Also those redriven or dropped.")] = False,
        oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Instead of the newest first.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many to show.")] = 50,
        as_json: JsonFlag = False,
    ) -> None:
        """The letters that nothing has been done with, and how many there are of each reason."""
        from cli.letter_views import listing_document, listing_lines
        from streams.letters import list_letters

        wanted = _filter(reason, topic, since, until, with_closed=with_closed)
        listing = asyncio.run(list_letters(settings_here(), wanted, limit=limit, oldest_first=oldest_first))
        _say(json.dumps(listing_document(listing)) if as_json else "\n".join(listing_lines(listing)))

    @letters.command("show")
    def show(
        letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` names it.")], as_json: JsonFlag = False
    ) -> None:
        """One letter: headers, content, and what has been done with it."""
        from cli.letter_views import letter_document, letter_lines
        from streams.letters import find_letter

        found = asyncio.run(find_letter(settings_here(), letter_id))
        if found is None:
            raise UnknownLetter(f"there is no dead letter {letter_id[:200]!r}; `darkroom dead-letters list` names them")
        _say(json.dumps(letter_document(found)) if as_json else "\n".join(letter_lines(found)))

    @letters.command("redrive")
    def redrive(
        ids: Ids = None,
        reason: Reason = None,
        topic: Topic = None,
        since: Since = None,
        until: Until = None,
        to_topic: Annotated[str | None, typer.Option(help="To this topic instead of the original one.")] = None,
        note: Annotated[str, typer.Option(help="Why, for those who look later.")] = "",
        force: Annotated[bool, typer.Option("--force", help="Also what came back three times.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
        yes: Yes = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Publish the original records again: these, or all open ones that fit. Ids stay, so nothing happens twice."""
        from streams.redrive import redrive_letters

        settings = settings_here()
        chosen, is_bulk = _chosen(settings, ids, _filter(reason, topic, since, until))
        if is_bulk and not dry_run:
            _confirm(f"redrive {len(chosen)} letters", yes)
        outcomes = redrive_letters(
            settings, chosen, by=_operator(), note=note, to_topic=to_topic, force=force, dry_run=dry_run
        )
        done = "would be redriven" if dry_run else "redriven"
        asyncio.run(_report(outcomes, chosen, done, is_bulk=is_bulk, as_json=as_json))

    @letters.command("drop")
    def drop(
        ids: Ids = None,
        note: Annotated[str, typer.Option(help="Why, for those who look later.")] = "",
        reason: Reason = None,
        topic: Topic = None,
        since: Since = None,
        until: Until = None,
        yes: Yes = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Write down that nothing more will be done with letters; they stay on their topic."""
        from streams.redrive import drop_letters

        if not note.strip():
            raise WrongUse("say why with --note")
        settings = settings_here()
        chosen, is_bulk = _chosen(settings, ids, _filter(reason, topic, since, until))
        if is_bulk:
            _confirm(f"drop {len(chosen)} letters", yes)
        outcomes = drop_letters(settings, chosen, by=_operator(), note=note)
        asyncio.run(_report(outcomes, chosen, "dropped", is_bulk=is_bulk, as_json=as_json))


def _filter(
    reason: str | None, topic: str | None, since: str | None, until: str | None, *, with_closed: bool = False
) -> LetterFilter:
    from models.letters import LetterFilter, read_moment_ms
    from models.topics import TOPICS

    if topic is not None and topic not in TOPICS:
        raise WrongUse(f"there is no topic {topic[:100]}; `darkroom topics list` names them")
    now_ms = int(time.time() * 1000)
    return LetterFilter(
        reason=reason,
        topic=topic,
        since_ms=None if since is None else read_moment_ms(since, now_ms),
        until_ms=None if until is None else read_moment_ms(until, now_ms),
        with_closed=with_closed,
    )


def _chosen(settings: Settings, ids: list[str] | None, wanted: LetterFilter) -> tuple[list[str], bool]:
    """(ids of letters, whether they were found by a filter)."""
    from models.letters import LetterFilter
    from streams.letters import list_letters

    if (wanted == LetterFilter()) == (not ids):
        raise WrongUse("name letters by their ids, or choose them by --reason, --topic, --since and --until")
    if ids:
        return list(dict.fromkeys(ids)), False
    listing = asyncio.run(list_letters(settings, wanted, limit=None))
    return [row.letter.letter_id for row in listing.letters], True


def _confirm(question: str, yes: bool) -> None:
    """Ask a person; a program has nobody to ask, and has said what it wants."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"{question}?", abort=True, err=True)


async def _report(
    outcomes: AsyncIterator[Outcome], chosen: list[str], done: str, *, is_bulk: bool, as_json: bool
) -> None:
    """Say what became of each as it is done. Raises NotAllDone."""
    from cli.letter_views import outcome_document, outcome_line

    said: list[dict[str, object]] = []
    missing = dict.fromkeys(chosen)
    problems: dict[str, str] = {}
    try:
        async for outcome in outcomes:
            missing.pop(outcome.letter_id, None)
            if outcome.problem is not None:
                problems[outcome.letter_id] = outcome.problem
            said.append(outcome_document(outcome, done))
            if not as_json:
                typer.echo(outcome_line(outcome, done))
    finally:
        if as_json:
            typer.echo(json.dumps(said))
    problems |= dict.fromkeys(missing, "there is no such letter")
    if not as_json:
        typer.echo(f"{len(chosen) - len(problems)} of {len(chosen)} {done}")
    # What a filter takes in and is not to be done is left alone; what was named was meant.
    if problems and not is_bulk:
        name, problem = next(iter(problems.items()))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise NotAllDone(f"{name[:200]!r} was not {done.split()[-1]}: {problem}{more}")


def _operator() -> str:
    import getpass
    import os

    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def _say(text: str) -> None:
    typer.echo(text)
