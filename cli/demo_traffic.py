"""The demo's users and what they ask for. Pure: the same seed asks for the same pictures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

NAMES = ("ada", "bruno", "chiara", "dmitri", "esra", "femi", "greta", "hiro")
# Half of the tightest window, so that two runs within a minute stay below every limit.
REQUESTS_PER_USER_MAX = 15
# Not a divisor of the number of users: everybody gets a set now and then.
SET_EVERY = 7

_WHAT = (
    "portrait of a violinist", "portrait of a beekeeper", "headshot in a linen jacket", "a woman in a red coat",
    "portrait of an old boxer", "a quiet harbour", "a sail on the lake", "dunes after the wind", "mountain huts",
    "hills of a green valley", "a rose garden", "glass spheres", "paper waves", "northern sky over a polar camp",
)  # fmt: skip
_LIGHT = (
    "at dusk", "at dawn", "by moonlight", "in morning fog", "under a summer sky", "in autumn light",
    "by the light of a candle", "in lilac haze", "in winter snow", "at noon", "at sunset",
)  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """One request to be made."""

    user_id: str
    operation: str
    prompt: str
    seed: int


def users_for(requests: int, run: str) -> list[str]:
    """As many users of this run's own as keep everybody below the limits; at least eight."""
    count = max(len(NAMES), -(-requests // REQUESTS_PER_USER_MAX))
    return [f"{NAMES[number % len(NAMES)]}-{run}-{number // len(NAMES)}" for number in range(count)]


def wishes(users: list[str], seed: int) -> Iterator[Wish]:
    """Endless: the users take turns; mostly a single picture for the chat, now and then a set of four."""
    chance = random.Random(seed)  # noqa: S311  pictures, not secrets
    number = 0
    while True:
        for user_id in users:
            number += 1
            operation = "studio.images" if number % SET_EVERY == 0 else "maya.image"
            prompt = f"{chance.choice(_WHAT)} {chance.choice(_LIGHT)}"
            yield Wish(user_id, operation, prompt, chance.randrange(1 << 32))
