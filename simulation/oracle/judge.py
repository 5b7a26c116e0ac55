"""All of what must be true, of one run that has come to rest."""

from __future__ import annotations

from simulation.oracle.admission import Admissions
from simulation.oracle.cache import cache_problems
from simulation.oracle.events import Announced
from simulation.oracle.fulfilment import Endings
from simulation.oracle.limits import LAG_S, LimitHistory
from simulation.oracle.money import Money
from simulation.services import DEADLINE_S
from simulation.world import World


def judge(world: World) -> list[str]:
    """Every sentence that is false, in words."""
    broker, store = world.broker, world.store
    announced = Announced(broker)
    money = Money(broker, store, announced)
    admissions = Admissions(broker, store, announced, money, LimitHistory(broker, _lag_s(world)))
    endings: list[str] = []
    if world.plan.fulfilment:
        given = (broker, store, world.provider, world.objects, announced, money, admissions, DEADLINE_S)
        endings = [*Endings(*given).problems, *cache_problems(world, money)]
    return [
        *world.problems,
        *world.monitor.problems,
        *announced.problems,
        *money.problems,
        *admissions.problems,
        *endings,
    ]


def _lag_s(world: World) -> float:
    """For how long a worker may not have heard of a change: as long as it stood still or Kafka was away."""
    faults = [item for item in world.plan.items if item.kind in ("pause", "pause_in_step", "kafka_away", "slow")]
    return LAG_S + sum(float(item.what["for_s"]) for item in faults)
