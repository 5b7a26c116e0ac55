"""`darkroom tokens`: who may use the gateway. A token is shown when it is made and never again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli.here import settings_here
from models.errors import DarkroomError, WrongUse
from models.requests import is_id
from models.tokens import STORED_SCOPES, USER_TTL_S, USER_TTL_S_MAX, checked_name, checked_scopes, checked_ttl_s

if TYPE_CHECKING:
    from adapters.postgres import Pool
    from models.tokens import StoredToken
    from streams.settings import Settings

T = TypeVar("T")
JsonFlag = Annotated[bool, typer.Option("--json", help="For a program to read.")]


class NoSuchToken(DarkroomError):
    """There is no token of this id."""

    code = "no_such_token"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tokens = typer.Typer(help="Who may use the HTTP gateway.", no_args_is_help=True)
    app.add_typer(tokens, name="tokens")

    @tokens.command("create")
    def create(
        scopes: Annotated[
            list[str] | None, typer.Option("--scope", help="producer, dashboard or operator; may be given again.")
        ] = None,
        name: Annotated[str, typer.Option(help="Whose it is, for `list`.")] = "",
    ) -> None:
        """Make a token; the last line is the token, which is not kept."""
        from adapters.tokens import create_token

        wanted, label = checked_scopes(scopes or ()), checked_name(name)
        token, token_id = _with_pool(settings_here(), lambda pool: create_token(pool, wanted, label))
        typer.echo(f"token {token_id} for {', '.join(wanted)}; it is shown this once:")
        typer.echo(token)

    @tokens.command("list")
    def list_(as_json: JsonFlag = False) -> None:
        """All tokens, newest first, without their secrets; users' own are signed and not kept."""
        from adapters.tokens import list_tokens

        found = _with_pool(settings_here(), list_tokens)
        if as_json:
            typer.echo(json.dumps([_document(token) for token in found]))
            return
        for token in found:
            typer.echo(_line(token))
        if not found:
            typer.echo("no tokens; make one: darkroom tokens create --scope producer")

    @tokens.command("revoke")
    def revoke(token_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
        """End a token, and what was made with it, within a few seconds, for ever."""
        from adapters.tokens import revoke_token

        if token_id.startswith("dr_"):
            raise WrongUse("name the token's id, as `darkroom tokens list` shows it, not the token")
        if not is_id(token_id) or not _with_pool(settings_here(), lambda pool: revoke_token(pool, token_id)):
            raise NoSuchToken(f"there is no token {token_id!r}; see: darkroom tokens list")
        typer.echo(f"revoked {token_id}; every gateway refuses it within a few seconds")

    @tokens.command("user")
    def user(
        user_id: Annotated[str, typer.Argument(metavar="USER")],
        ttl_s: Annotated[int, typer.Option("--ttl", help=f"Seconds, 1 to {USER_TTL_S_MAX:,}.")] = USER_TTL_S,
    ) -> None:
        """Make a short-lived token that sees and does only what is this user's; the last line is the token."""
        from adapters.token_key import signing_key
        from gateway.signing import Signer

        if not is_id(user_id):
            raise WrongUse("USER: must be 1 to 128 of A-Z a-z 0-9 . _ : -")
        ttl_s = checked_ttl_s(ttl_s)
        settings = settings_here()
        token, expires_at = Signer(signing_key(settings.token_key, settings.home)).user_token(user_id, ttl_s)
        typer.echo(f"token of {user_id} until {expires_at:%Y-%m-%dT%H:%M:%SZ}; it cannot be revoked:")
        typer.echo(token)


def make_tokens(settings: Settings, name: str, live_s: float) -> dict[str, str]:
    """A token for each scope, by scope, good for so many seconds. Raises WrongUse, Unavailable."""
    from adapters.tokens import create_token

    end = datetime.now(UTC) + timedelta(seconds=live_s)

    async def make(pool: Pool) -> dict[str, str]:
        return {scope.value: (await create_token(pool, [scope], name, end))[0] for scope in STORED_SCOPES}

    return _with_pool(settings, make)


def _with_pool(settings: Settings, work: Callable[[Pool], Awaitable[T]]) -> T:
    from adapters.postgres import close_pool, open_pool

    async def run() -> T:
        pool = await open_pool(settings.require("postgres"), size_max=1, application="darkroom-tokens")
        try:
            return await work(pool)
        finally:
            await close_pool(pool)

    return asyncio.run(run())


def _document(token: StoredToken) -> dict[str, object]:
    moments = {"created_at": token.created_at, "expires_at": token.expires_at, "revoked_at": token.revoked_at}
    return {
        "token_id": token.token_id,
        "scopes": list(token.scopes),
        "name": token.name,
        **{name: at and at.isoformat(timespec="milliseconds").replace("+00:00", "Z") for name, at in moments.items()},
    }


def _line(token: StoredToken) -> str:
    end = f"revoked {token.revoked_at:%Y-%m-%d %H:%M:%S}" if token.revoked_at else ""
    if not end and token.expires_at:
        end = f"until {token.expires_at:%Y-%m-%d %H:%M:%S}"
    scopes = ",".join(token.scopes)
    return f"{token.token_id}  {token.created_at:%Y-%m-%d %H:%M:%S}  {scopes:<28} {end:<28} {token.name}".rstrip()
