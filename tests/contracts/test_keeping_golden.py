"""The command that keeps golden copies adds, and never changes what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.contracts import golden
from tests.contracts.fixed import Case
from tests.contracts.rendering import all_cases

CASES = all_cases()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    return tmp_path


def changed(case: Case, number: int) -> Case:
    topic, key, _, headers = case.output
    return replace(case, output=(topic, key, b'{"form": %d}' % number, headers))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.topic}-{case.name}")
def test_an_event_is_read_back_as_it_was(case: Case, folder: Path) -> None:
    path = golden.add(case)
    assert path is not None
    assert golden.read(path).output == case.output
    assert golden.read(path).means == case.means


def test_an_event_that_is_as_it_was_is_not_kept_again(folder: Path) -> None:
    assert golden.add(CASES[0]) == folder / CASES[0].topic / f"{CASES[0].name}.json"
    assert golden.add(CASES[0]) is None


def test_a_changed_form_gets_a_file_of_its_own_beside_the_old_ones(folder: Path) -> None:
    forms = [CASES[0], *(changed(CASES[0], number) for number in range(2, 12))]
    paths = [golden.add(form) for form in forms]
    assert [path.name for path in paths if path][:2] == ["picture.json", "picture.2.json"]
    assert [one.output for one in golden.versions(CASES[0])] == [form.output for form in forms]
    assert len(golden.everything()) == len(forms)


def test_a_form_that_comes_back_is_kept_again(folder: Path) -> None:
    """The newest copy is what is sent now."""
    forms = (CASES[0], changed(CASES[0], 2), CASES[0])
    assert [golden.add(form) is not None for form in forms] == [True] * 3
    assert golden.versions(CASES[0])[-1].output == CASES[0].output
