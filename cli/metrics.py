"""`python -m cli.metrics`: write docs/metrics.md from the metrics in the code. For whoever adds one."""

from __future__ import annotations

from pathlib import Path

from cli.metrics_document import document

PATH = Path(__file__).parents[1] / "docs" / "metrics.md"


def main() -> None:
    """Write the file."""
    PATH.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
