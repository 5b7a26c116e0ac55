"""Named queries: each .sql file in adapters/sql holds blocks that begin with `-- name: what_it_does`."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_BLOCK = re.compile(r"^-- name: (\w+)\s*\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


@cache
def load_queries(room: str) -> dict[str, str]:
    """Query texts by name from adapters/sql/{room}.sql."""
    text = resources.files("adapters.sql").joinpath(f"{room}.sql").read_text(encoding="utf-8")
    return {name: body.strip().rstrip(";") for name, body in _BLOCK.findall(text)}
