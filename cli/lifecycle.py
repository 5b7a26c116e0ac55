"""`python -m cli.lifecycle`: write docs/lifecycle.md from the lifecycle table. For whoever changes the table."""

from __future__ import annotations

from pathlib import Path

from models.lifecycle_document import document

PATH = Path(__file__).parents[1] / "docs" / "lifecycle.md"


def main() -> None:
    """Write the file."""
    PATH.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
