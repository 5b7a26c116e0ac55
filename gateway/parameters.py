"""Parameters that several routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query

from models.errors import WrongUse
from models.requests import ID_PATTERN

# JSON Schema's patterns know no \Z.
SCHEMA_ID_PATTERN = ID_PATTERN.replace(r"\Z", "$")

RequestId = Annotated[str, Path(pattern=SCHEMA_ID_PATTERN, description="The id that its producer gave it.")]


async def named_user(
    user: Annotated[
        str | None,
        Query(pattern=SCHEMA_ID_PATTERN, description="Whose; left out with a user's own token, which knows."),
    ] = None,
    user_id: Annotated[str | None, Query(pattern=SCHEMA_ID_PATTERN, include_in_schema=False)] = None,
) -> str | None:
    """The user that the query names, by either name. Raises WrongUse: two different ones."""
    if user is not None and user_id not in (None, user):
        raise WrongUse("user: is given twice, and not the same")
    return user if user is not None else user_id


User = Annotated[str | None, Depends(named_user)]
"""What a route declares: `user: User`."""
