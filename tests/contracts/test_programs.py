"""Whatever is asked of the tables in memory and of Postgres, in whatever order: the answers are the same."""

from __future__ import annotations

import pytest

from adapters.postgres import Pool
from tests.contracts.conftest import memory_pool
from tests.contracts.programs import PLAYS, play_program

LENGTH = 60


@pytest.mark.parametrize("seed", range(12))
async def test_a_random_program_gives_the_same_on_both(real_pool: Pool, seed: int) -> None:
    print(f"seed {seed}")
    in_memory = await play_program(memory_pool(), seed, LENGTH)
    in_postgres = await play_program(real_pool, seed, LENGTH)
    for number, (here, there) in enumerate(zip(in_memory, in_postgres, strict=True)):
        assert here == there, f"step {number}"


async def test_programs_do_everything_there_is() -> None:
    played = {name for seed in range(12) for name, _ in (await play_program(memory_pool(), seed, LENGTH))[:-1]}
    assert played == {one.__name__ for one in PLAYS}
