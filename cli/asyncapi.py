"""`python -m cli.asyncapi`: write docs/asyncapi.json from the registry. For whoever changes a topic or an event."""

from __future__ import annotations

from pathlib import Path

from models.asyncapi import document_json

PATH = Path(__file__).parents[1] / "docs" / "asyncapi.json"


def main() -> None:
    """Write the file."""
    PATH.write_bytes(document_json())


if __name__ == "__main__":
    main()
