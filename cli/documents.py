"""`python -m cli.documents`: write the documents that are made from code. For whoever changes the code."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from cli import metrics_document
from gateway.app import create_app
from models import lifecycle_document, problem_codes
from models.asyncapi import document_json
from streams.settings import load_settings

FOLDER = Path(__file__).parents[1] / "docs"


def documents() -> dict[Path, str]:
    """Each file's path and text; the same on every machine."""
    return {
        FOLDER / "asyncapi.json": document_json().decode(),
        FOLDER / "errors.md": problem_codes.document(),
        FOLDER / "lifecycle.md": lifecycle_document.document(),
        FOLDER / "metrics.md": metrics_document.document(),
        FOLDER / "openapi.json": openapi_text(),
    }


def openapi_text() -> str:
    """The gateway's own description of its routes; nothing is connected for it."""
    with tempfile.TemporaryDirectory(prefix="darkroom-documents-") as home:
        nowhere = "127.0.0.1:9"
        settings = load_settings(
            kafka=nowhere, postgres=f"postgresql://{nowhere}/darkroom", redis=f"redis://{nowhere}", home=Path(home)
        )
        return json.dumps(create_app(settings).openapi(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
