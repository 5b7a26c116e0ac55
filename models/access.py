"""Who may do what: scopes of tokens, and the rules that follow from them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from models.errors import DarkroomError, WrongUse
from models.requests import is_id


class Scope(StrEnum):
    """What a token is for. `user` is never stored: such tokens are signed, live shortly and name their user."""

    PRODUCER = "producer"
    DASHBOARD = "dashboard"
    OPERATOR = "operator"
    USER = "user"


class Forbidden(DarkroomError):
    """The token is good, but not for this."""

    code = "forbidden"


@dataclass(frozen=True)
class Principal:
    """Whoever holds a token. `user_id` is set for user tokens alone: they see and do only their own.

    `via` is the stored token that a signed one was made with, `ends_at_s` when a token ends (seconds since 1970): what
    goes on for long asks by these whether it still may.
    """

    token_id: str
    scopes: frozenset[Scope]
    user_id: str | None = None
    via: str | None = field(default=None, compare=False)
    ends_at_s: float | None = field(default=None, compare=False)

    def acts_for(self, user_id: object) -> str:
        """The user in whose name something is done: the one asked for, or the token's own.

        Raises Forbidden: not theirs, or the token cannot act. WrongUse: no user is named, or none that can be.
        """
        if not self.scopes & {Scope.PRODUCER, Scope.USER}:
            raise Forbidden("this token may not act for users; it takes the scope producer, or a user's own token")
        return self._user(user_id)

    def reads_of(self, user_id: object) -> str | None:
        """The user whose things are read, None for everybody's. Raises Forbidden, WrongUse."""
        if user_id is None and self.user_id is None:
            return None
        return self._user(user_id)

    def reads_one(self, user_id: object) -> str:
        """The user whose things are read, where one must be named. Raises Forbidden, WrongUse."""
        return self._user(user_id)

    def grants(self) -> None:
        """Raises Forbidden: the token may not give credits; a user's own token never may."""
        if not self.scopes & {Scope.PRODUCER, Scope.OPERATOR}:
            raise Forbidden("this token may not give credits; it takes the scope producer or operator")

    def operates(self) -> None:
        """Raises Forbidden: the token may not pull levers."""
        if Scope.OPERATOR not in self.scopes:
            raise Forbidden("this token may not do that; it takes the scope operator")

    def _user(self, user_id: object) -> str:
        if self.user_id is not None:
            if user_id not in (None, self.user_id):
                raise Forbidden("this token is for another user")
            return self.user_id
        if user_id is None:
            raise WrongUse("user: must be named, since the token is not of one user")
        if not is_id(user_id):
            raise WrongUse("user: must be 1 to 128 of A-Z a-z 0-9 . _ : -")
        return user_id
