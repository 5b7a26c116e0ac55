"""What each agent's docstring says of its topics is what the registry says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from models.topics import DEAD_LETTERS, TOPICS

AGENTS = sorted(path for path in (Path(__file__).parents[2] / "agents").glob("*.py") if path.stem != "__init__")


def told(path: Path, heading: str) -> set[str]:
    """The topics under one heading of the agent's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    part = re.search(rf"^{heading}:(.*?)(?=^[A-Z][a-z]+:|\Z)", text, re.MULTILINE | re.DOTALL)
    assert part is not None, f"{path.name} does not say what it {heading.lower()}"
    return set(re.findall(r"\b[a-z-]+(?:\.[a-z_]+)*\.v\d\b", part[1]))


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_an_agent_reads_and_writes_what_the_registry_says(path: Path) -> None:
    agent = path.stem
    assert told(path, "Reads") == {topic.name for topic in TOPICS.values() if agent in topic.readers}
    assert told(path, "Writes") == {topic.name for topic in TOPICS.values() if agent in topic.writers}


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_an_agent_says_what_it_guarantees_and_how_it_fails(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert re.search(r"^Guarantees: \S", text, re.MULTILINE)
    assert re.search(r"^Fails:      \S", text, re.MULTILINE)


def test_whoever_reads_can_bury_what_it_cannot_read() -> None:
    readers = {reader for topic in TOPICS.values() for reader in topic.readers} & {path.stem for path in AGENTS}
    assert readers <= set(TOPICS[DEAD_LETTERS].writers)
