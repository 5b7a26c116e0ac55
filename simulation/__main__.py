"""python -m simulation --seeds 0..99999, or --seed 17: run seeds; a failing one is made as short as it can be."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time

from simulation.plan import Plan, make_plan
from simulation.running import run_plan, shortest, silence

PROBLEMS_SHOWN = 5


def main(arguments: list[str]) -> int:
    """Exit code: 0 all as it must be, 1 a seed fails, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", metavar="A..B", default="0..999", help="from A to B, both included")
    parser.add_argument("--keep", metavar="N,N,...", help="with --seed: only these items of its plan")
    parser.add_argument("--path", choices=["admission", "fulfilment", "both"], default="both")
    parser.add_argument("--shrink-s", type=float, default=60.0, help="how long to look for a shorter history")
    given = parser.parse_args(arguments)
    paths = [False, True] if given.path == "both" else [given.path == "fulfilment"]
    first, _, last = given.seeds.partition("..")
    seeds = [given.seed] if given.seed is not None else range(int(first), int(last or first) + 1)
    began = time.monotonic()
    with silence():
        for number, seed in enumerate(seeds, 1):
            for is_fulfilment in paths:
                plan = make_plan(seed, fulfilment=is_fulfilment)
                if given.keep is not None:
                    kept = [int(place) for place in given.keep.split(",")]
                    plan = plan._replace(items=[plan.items[place] for place in kept])
                world, problems = run_plan(plan)
                if problems:
                    tell(plan, problems, given.shrink_s if given.keep is None else 0.0)
                    return 1
                if given.seed is not None:
                    digest = hashlib.sha256("\n".join(world.history()).encode()).hexdigest()[:16]
                    print(f"{len(world.history())} records on the topics, digest {digest}")
            if number % 1000 == 0:
                print(f"{number} seeds as they must be, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len(seeds)} seeds as they must be, {time.monotonic() - began:.0f} s")
    return 0


def tell(plan: Plan, problems: list[str], shrink_s: float) -> None:
    """Print the shortest history that fails and the command that repeats it."""
    path = "fulfilment" if plan.fulfilment else "admission"
    print(f"seed {plan.seed} ({path}): {len(problems)} problems", flush=True)
    whole = make_plan(plan.seed, fulfilment=plan.fulfilment).items
    short = shortest(plan, seconds=shrink_s) if shrink_s else plan
    world, problems = run_plan(short)
    print(f"\nits plan, {len(short.items)} of {len(whole)} items:")
    print(*short.items, sep="\n")
    print("\nits history:")
    print(*world.history(), sep="\n")
    print("\nwhat is wrong:")
    print(*problems[:PROBLEMS_SHOWN], sep="\n")
    kept = ",".join(str(whole.index(item)) for item in short.items)
    print(f"\nto repeat it:\n  .venv/bin/python -m simulation --path {path} --seed {plan.seed} --keep {kept}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
