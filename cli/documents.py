"""`python -m cli.documents`: write the documents that are made from code. For whoever changes the code."""

from __future__ import annotations

from pathlib import Path

from models import problem_codes

FOLDER = Path(__file__).parents[1] / "docs"


def documents() -> dict[Path, str]:
    """Each file's path and text; the same on every machine."""
    return {FOLDER / "errors.md": problem_codes.document()}


def main() -> None:
    """Write the files."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
