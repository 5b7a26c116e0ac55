"""A simulation is worth what it notices: small breaks of the code, each of which a few seeds must catch."""

from __future__ import annotations

import pytest

from simulation.plan import make_plan
from simulation.running import run_plan, silence
from tests.simulation.mutations import ADMISSION, Break

SEEDS = 300


@pytest.mark.parametrize("broken", ADMISSION, ids=lambda broken: broken.__name__)
def test_a_break_is_caught_within_three_hundred_seeds(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    with silence():
        for seed in range(SEEDS):
            if run_plan(make_plan(seed))[1]:
                print(f"{broken.__name__}: caught by seed {seed}")
                return
    pytest.fail(f"{SEEDS} seeds have not noticed: {broken.__name__}")
