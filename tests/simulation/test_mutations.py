"""A simulation is worth what it notices: small breaks of the code, each of which a few seeds must catch."""

from __future__ import annotations

import pytest

from simulation.plan import make_plan
from simulation.running import run_plan, silence
from tests.simulation.mutations import ADMISSION, FULFILMENT, Break

SEEDS = 300


@pytest.mark.parametrize("broken", ADMISSION, ids=lambda broken: broken.__name__)
def test_a_break_of_admission_is_caught(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    _catch(broken, monkeypatch, fulfilment=False)


@pytest.mark.parametrize("broken", FULFILMENT, ids=lambda broken: broken.__name__)
def test_a_break_of_fulfilment_is_caught(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    _catch(broken, monkeypatch, fulfilment=True)


def _catch(broken: Break, monkeypatch: pytest.MonkeyPatch, *, fulfilment: bool) -> None:
    broken(monkeypatch)
    with silence():
        for seed in range(SEEDS):
            if run_plan(make_plan(seed, fulfilment=fulfilment))[1]:
                print(f"{broken.__name__}: caught by seed {seed}")
                return
    pytest.fail(f"{SEEDS} seeds have not noticed: {broken.__name__}")
