"""Golden copies of events: what was on the wire once must stay readable.

`python -m tests.contracts.golden` adds a file for every event that has none like it. Files are never changed or
removed: when the form of an event changes, its new form gets a file beside the old one (`picture.json`,
`picture.2.json`), and today's readers must understand both.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.outputs import Output
from tests.contracts.fixed import Case
from tests.contracts.rendering import all_cases

FOLDER = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Golden:
    """One event as it was on the wire, and what it means."""

    path: Path
    output: Output
    means: dict[str, Any]

    @property
    def topic(self) -> str:
        return self.output[0]


def read(path: Path) -> Golden:
    """One golden copy."""
    body = json.loads(path.read_text(encoding="utf-8"))
    headers = [(name, value.encode()) for name, _, value in (line.partition(": ") for line in body["headers"])]
    output = (path.parent.name, _bytes_in(body, "key"), _bytes_in(body, "value"), headers)
    return Golden(path, output, body["means"])


def everything() -> list[Golden]:
    """All golden copies of all times."""
    return [read(path) for path in sorted(FOLDER.glob("*/*.json"))]


def versions(case: Case) -> list[Golden]:
    """The golden copies of one event, the oldest first."""
    paths = {
        _number(path): path for path in (FOLDER / case.topic).glob("*.json") if path.name.split(".")[0] == case.name
    }
    return [read(paths[number]) for number in sorted(paths)]


def add(case: Case) -> Path | None:
    """Keep the event if it is unlike its newest copy."""
    known = versions(case)
    if known and known[-1].output == case.output:
        return None
    path = FOLDER / case.topic / f"{case.name}{f'.{_number(known[-1].path) + 1}' if known else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _, key, value, headers = case.output
    body = {
        "means": case.means,
        **_text_of("key", key),
        "headers": [f"{name}: {data.decode()}" for name, data in headers],
        **_text_of("value", value),
    }
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _number(path: Path) -> int:
    parts = path.name.split(".")
    return int(parts[1]) if len(parts) == 3 else 1


def _text_of(name: str, data: bytes | None) -> dict[str, str | None]:
    """Bytes as text where they are text, so that a person can read them."""
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data or b"").decode()}


def _bytes_in(body: dict[str, Any], name: str) -> bytes | None:
    if f"{name}_base64" in body:
        return base64.b64decode(body[f"{name}_base64"])
    return None if body[name] is None else str(body[name]).encode()


def main() -> None:
    """Add what is missing."""
    for path in filter(None, map(add, all_cases())):
        print(path.relative_to(FOLDER))


if __name__ == "__main__":
    main()
