"""`darkroom request`, `darkroom cancel` and `darkroom grant`: producers for a person."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.here import settings_here
from models.errors import DarkroomError

if TYPE_CHECKING:
    from models.cancelling import CancelRequested
    from models.grants import Grant
    from models.requests import Request
    from streams.outcomes import Answer
    from streams.settings import Settings

WAIT_TIMEOUT_S = 120.0

JsonFlag = Annotated[bool, typer.Option("--json", help="For a program to read.")]
User = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]


class NotDone(DarkroomError):
    """The request ended without pictures, or did not end in time."""

    code = "not_done"


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def request(
        user: User,
        operation: Annotated[str, typer.Argument(metavar="OPERATION", help="Such as maya.image or studio.images.")],
        prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the picture shows.")],
        request_id: Annotated[str, typer.Option("--id", help="The same id again is the same request.")] = "",
        num_outputs: Annotated[int | None, typer.Option(help="How many pictures.")] = None,
        aspect_ratio: Annotated[str | None, typer.Option(help="Such as 4:5.")] = None,
        seed: Annotated[int | None, typer.Option(help="For the same picture again.")] = None,
        image_url: Annotated[str | None, typer.Option(help="The picture that a video begins with.")] = None,
        image: Annotated[list[str] | None, typer.Option(help="A picture to train with; again for more.")] = None,
        trigger_word: Annotated[str | None, typer.Option(help="The word that is to call the trained model.")] = None,
        wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; exit 1 unless completed.")] = False,
        timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait.")] = WAIT_TIMEOUT_S,
        as_json: JsonFlag = False,
    ) -> None:
        """Ask for pictures, a video or a trained model in a user's name."""
        from streams.producer import new_request

        asked = new_request(
            user,
            operation,
            prompt,
            request_id=request_id or None,
            num_outputs=num_outputs,
            aspect_ratio=aspect_ratio,
            seed=seed,
            image_url=image_url,
            images=tuple(image) if image else None,
            trigger_word=trigger_word,
        )
        asyncio.run(_request(settings_here(), asked, timeout_s if wait else None, as_json))

    @app.command()
    def cancel(
        user: User,
        request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request's id.")],
        as_json: JsonFlag = False,
    ) -> None:
        """Stop a request: one that has not succeeded yet is given up and refunded."""
        from streams.producer import new_cancel

        asyncio.run(_cancel(settings_here(), new_cancel(user, request_id), as_json))

    @app.command()
    def grant(
        user: User,
        amount: Annotated[int, typer.Argument(metavar="AMOUNT", help="Credits, 1 to 1,000,000.")],
        kind: Annotated[str, typer.Option(help="purchase, subscription_grant or bonus.")] = "purchase",
        grant_id: Annotated[str, typer.Option("--id", help="The same id again is the same grant.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Give a user credits."""
        from streams.producer import new_grant

        asyncio.run(_grant(settings_here(), new_grant(user, amount, kind, grant_id=grant_id or None), as_json))


async def _cancel(settings: Settings, wish: CancelRequested, as_json: bool) -> None:
    from streams.producer import Producer

    async with Producer(settings) as producer:
        place = await producer.cancel(wish)
    facts = {"request_id": wish.request_id, "user_id": wish.user_id, **place._asdict()}
    typer.echo(json.dumps(facts) if as_json else f"{wish.request_id} is to be cancelled")


async def _grant(settings: Settings, grant: Grant, as_json: bool) -> None:
    from streams.producer import Producer

    async with Producer(settings) as producer:
        place = await producer.grant(grant)
    facts = {"grant_id": grant.grant_id, "user_id": grant.user_id, "amount": grant.amount, **place._asdict()}
    typer.echo(json.dumps(facts) if as_json else f"{grant.grant_id} sent: {grant.amount} credits to {grant.user_id}")


async def _request(settings: Settings, request: Request, wait_s: float | None, as_json: bool) -> None:
    from streams.outcomes import Outcome
    from streams.producer import Producer

    facts: dict[str, Any] = {"request_id": request.request_id, "user_id": request.user_id}
    async with Producer(settings) as producer:
        if wait_s is None:
            facts |= (await producer.request(request))._asdict()
            typer.echo(json.dumps(facts) if as_json else f"{request.request_id} sent")
            return
        async with Outcome.following(settings, request) as outcome:
            place = await producer.request(request)
            if not as_json:
                typer.echo(f"{request.request_id} sent")
            answer = await outcome.wait(
                place, timeout_s=wait_s, on_admitted=lambda admitted: None if as_json else _say_admitted(admitted)
            )
    if as_json:
        _print_outcome(facts | place._asdict(), answer)
    else:
        _say_outcome(answer, wait_s)


def _print_outcome(facts: dict[str, Any], answer: Answer | None) -> None:
    outcome = "undecided" if answer is None else _word(answer)
    if answer is not None:
        facts |= {"ms": answer.at_ms - answer.sent_ms, "event": answer.body}
    typer.echo(json.dumps({"outcome": outcome, **facts}))
    if outcome != "completed":
        raise typer.Exit(1)


def _say_admitted(answer: Answer) -> None:
    body = answer.body
    typer.echo(f"admitted: {_credits(body['cost'])}, {body['balance']} left ({answer.at_ms - answer.sent_ms} ms)")


def _say_outcome(answer: Answer | None, waited_s: float) -> None:
    if answer is None:
        raise NotDone(f"not finished after {waited_s:g} s; look with `darkroom trace`")
    body = answer.body
    if _word(answer) != "completed":
        raise NotDone(f"{_word(answer)} ({body['reason']}): {body['message']}")
    took_ms = answer.at_ms - answer.sent_ms
    when = f"completed after {took_ms} ms" if took_ms >= 0 else "completed before: this is the same request again"
    if model := body.get("model"):
        typer.echo(f"{when}; {model['trigger_word']} calls the model {model['version']}")
        return
    typer.echo(f"{when}; pictures:")
    for image in body["images"]:
        typer.echo(f"  {image['url']}  {image['width']}x{image['height']}")


def _word(answer: Answer) -> str:
    """`completed`, `failed` or `rejected`: the middle of the topic's name."""
    return answer.topic.split(".")[1]


def _credits(amount: int) -> str:
    return f"{amount} credit{'' if amount == 1 else 's'}"
