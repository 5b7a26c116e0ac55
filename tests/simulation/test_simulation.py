"""Seeds of the simulation, as many as fit the time of `make test`. `make simulate` runs more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from simulation.__main__ import main, tell
from simulation.loop import run_virtually
from simulation.plan import make_plan
from simulation.running import run_plan, shortest, silence
from tests.simulation.mutations import forget_to_charge

PART = 250
BUDGET_S = 120.0
"""Of processor time for a part of the seeds; four times what it takes on a slow machine."""


def run_seeds(first: int, *, fulfilment: bool) -> None:
    """Run a part of the seeds; a failing one is made short and printed."""
    began = time.process_time()
    with silence():
        for seed in range(first, first + PART):
            plan = make_plan(seed, fulfilment=fulfilment)
            _, problems = run_plan(plan)
            if problems:
                tell(plan, problems, 30.0)
                pytest.fail(f"seed {seed}: {problems[0]}")
            used_s = time.process_time() - began
            assert used_s < BUDGET_S, f"only {seed + 1 - first} of {PART} seeds in {BUDGET_S:.0f} s"


@pytest.mark.timeout(BUDGET_S * 5)
@pytest.mark.parametrize("first", range(0, 1000, PART))
def test_a_thousand_seeds_from_request_to_picture_are_as_they_must_be(first: int) -> None:
    run_seeds(first, fulfilment=True)


@pytest.mark.timeout(BUDGET_S * 5)
@pytest.mark.parametrize("first", range(0, 1000, PART))
def test_a_thousand_seeds_of_admission_alone_are_as_they_must_be(first: int) -> None:
    run_seeds(first, fulfilment=False)


@pytest.mark.parametrize("fulfilment", [False, True])
def test_a_seed_has_one_history(fulfilment: bool) -> None:
    with silence():
        first, again = (run_plan(make_plan(7, fulfilment=fulfilment))[0].history() for _ in range(2))
    assert first == again
    assert len(first) > 20


def test_another_process_has_the_same_history() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-m", "simulation", "--seed", "11"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.splitlines()[:-1]
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert "digest" in said[0][0]


def test_a_failing_plan_is_made_as_short_as_it_can_be() -> None:
    plan = make_plan(3)
    needed = [plan.items[2], plan.items[-4]]
    short = shortest(plan, fails=lambda shorter: all(item in shorter.items for item in needed))
    assert short.items == needed


def test_a_failing_seed_says_what_happened_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_to_charge(monkeypatch)
    assert main(["--seeds", "0..5", "--path", "admission", "--shrink-s", "3"]) == 1
    said = capsys.readouterr().out
    command = said.strip().rpartition("\n")[2].split()
    assert command[:3] == [".venv/bin/python", "-m", "simulation"]
    assert main(command[3:]) == 1
    monkeypatch.undo()
    assert main(command[3:]) == 0


def test_time_passes_only_when_nothing_is_ready() -> None:
    async def sleeps() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(7200))
        return loop.time()

    began = time.monotonic()
    assert run_virtually(sleeps()) == 7200
    assert time.monotonic() - began < 5
