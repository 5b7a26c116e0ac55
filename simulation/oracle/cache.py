"""The cache: it shows no balance that never was, never goes back, and is behind nobody in the end."""

from __future__ import annotations

from simulation.oracle.money import Money
from simulation.world import World


def cache_problems(world: World, money: Money) -> list[str]:
    """Every sentence that is false."""
    problems = list(world.keyspace.problems)
    for user_id, version, balance in sorted(world.keyspace.seen):
        if money.balance_at(user_id, version) != balance:
            problems.append(f"the cache has shown {balance} at version {version} of {user_id}")
    for reading in world.readings:
        if money.balance_at(reading.user_id, reading.version) != reading.balance:
            problems.append(f"a reader was told {reading}, which never was")
    for row in world.store.rows("accounts"):
        held = world.held_at_rest.get(row["user_id"])
        if held is not None and held.version != row["version"]:
            problems.append(f"the cache holds version {held.version} of {row['user_id']}, not {row['version']}")
    return problems
