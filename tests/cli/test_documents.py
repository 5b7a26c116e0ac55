"""README.md and ARCHITECTURE.md say what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cli.main import build_app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_readme_lists_every_command() -> None:
    app = build_app()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    groups = {group.name for group in app.registered_groups}
    listed = set(re.findall(r"^\| `darkroom (\S+?)[ `]", README, re.MULTILINE))
    assert listed == commands | groups


def test_every_dependency_has_its_reason_and_no_other_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split(r"[\[<>=]", one)[0] for one in (*project["dependencies"], *extras["demo"], *extras["tests"])}
    tables = ARCHITECTURE.partition("## Dependencies")[2]
    named = re.findall(r"^\| (?:(?:demo|tests) \| )?([A-Za-z][\w, -]*?) \|", tables, re.MULTILINE)
    reasons = {name for cell in named for name in cell.split(", ")} - {"package", "extra"}
    assert reasons == wanted - {"darkroom"}


def test_every_crash_point_is_in_the_table() -> None:
    """The delivery step's points by number, the services' by name and number."""
    in_code: dict[str, set[int]] = {}
    for path in (*ROOT.glob("streams/*.py"), *ROOT.glob("services/*.py")):
        for number in re.findall(r"crash_point\([^,)]+, (\d)\)", path.read_text()):
            in_code.setdefault(path.stem, set()).add(int(number))
    in_table: dict[str, set[int]] = {}
    where = ""
    for place, number in re.findall(r"^\| ([\w ]*?) ?\| (\d) \|", ARCHITECTURE, re.MULTILINE):
        where = {"every delivery step": "delivery"}.get(place, place) or where
        in_table.setdefault(where, set()).add(int(number))
    assert in_table == in_code


def test_every_room_is_described() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert set(re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE, re.MULTILINE)) == rooms


def test_files_that_the_documents_name_are_there() -> None:
    named = set(re.findall(r"`((?:models|streams|agents|adapters|cli)/[\w/]+\.(?:py|sql))`", README + ARCHITECTURE))
    assert named
    # The example's own files are yet to be written.
    assert {name for name in named if not (ROOT / name).exists()} == {
        "models/low_credits.py", "agents/low_credits.py",
    }  # fmt: skip
