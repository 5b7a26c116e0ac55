"""Random programs of what the steps and services ask of Postgres, to be played on two databases and compared.

Delays are zero or very long, so that nothing depends on when a program is played.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from adapters import admission_state, books, generations, progress, strays, user_models, work
from adapters.postgres import Connection, Pool, connection, transaction
from models import admission
from models.accounts import Account
from models.errors import Unavailable
from models.facts import ImagesStored, StoredImage
from models.gallery import GalleryRow
from models.lifecycle import ENDED, State
from models.operations import OPERATIONS, POLICIES
from models.pacing import pace_of
from models.provider_work import Model, Models, Work
from models.requests import Options
from models.settlement import Generation, StrayRun
from models.training import UserModel

TRACES = (None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
USERS = ("a", "b", "c")
LONG_S = 5000.0
NAMES = ("maya.image", "studio.images", "training.model")
PACE = pace_of(6000)
MODELS = Models("maker/pictures", "maker/videos", "maker/trainer:1")
AT_MS = 1_750_000_000_000

Play = Callable[[Pool, random.Random], Awaitable[Any]]
PLAYS: list[Play] = []


def play(function: Play) -> Play:
    PLAYS.append(function)
    return function


def _identities(dice: random.Random) -> list[tuple[str, str]]:
    return [(dice.choice(USERS), f"r{dice.randrange(6)}") for _ in range(dice.randint(0, 8))]


def _work(dice: random.Random) -> Work:
    user_id, request_id = dice.choice(USERS), f"r{dice.randrange(6)}"
    attempt = dice.choice([1, 1, 1, 2])
    return Work(user_id, request_id, "maya.image", f"p{dice.randrange(3)}", Options(), Model(""), attempt=attempt)


@play
async def steps_on(pool: Pool, dice: random.Random) -> Any:
    stream, next_offset = dice.choice(["s", "t"]), dice.randint(0, 50)
    async with connection(pool) as held:
        before = await progress.read_progress(held, stream, 0)
    if next_offset < before.next_offset:
        return before
    async with transaction(pool) as held:
        found = await progress.lock_progress(held, stream, 0)
        await progress.write_progress(held, stream, 0, next_offset=next_offset, clock_ms=5, decisions=b"\x00z")
    return before, found


@play
async def grants(pool: Pool, dice: random.Random) -> Any:
    users = dice.sample(USERS, dice.randint(1, 3))
    async with transaction(pool) as held:
        await books.make_accounts(held, users)
        accounts = await books.lock_accounts(held, [*users, "nobody"])
        known = await books.known_grants(held, [f"g{number}" for number in range(5)])
        entries = [accounts[user].move(dice.randint(1, 9), "bonus", f"g{dice.randrange(20)}") for user in users]
        await books.write_entries(held, entries, [accounts[user] for user in users])
    return known, sorted(accounts)


@play
async def admits(pool: Pool, dice: random.Random) -> Any:
    count = dice.choice([1, 2, 3, 3, books.COPIED_ROWS_MIN + 1])
    effects = admission.Effects()
    async with transaction(pool) as held:
        accounts = await books.lock_accounts(held, USERS)
        for number in range(count):
            account = accounts.get(dice.choice(USERS))
            if account is not None:
                _admit(dice, effects, account, f"r{dice.randrange(6)}" if count < 9 else f"big{number}")
        await books.write_admissions(held, effects, dice.randrange(2))
    return len(effects.generations)


def _admit(dice: random.Random, effects: admission.Effects, account: Account, request_id: str) -> None:
    cost = dice.randint(0, 1)
    if cost:
        effects.entries.append(account.move(-1, "charge", f"{account.user_id}/{request_id}"))
        effects.changed[account.user_id] = account
    window = dice.choice([(None, None), (30, 60)])
    context = dice.choice([None, b'{"position":1}'])
    effects.generations.append(
        admission.Admission(
            *(account.user_id, request_id, dice.choice(NAMES), cost, account.balance, account.version),
            *(f"p{dice.randrange(3)}\n'\"é", dice.choice([b"{}", b'{"seed":7}']), context),
            *(AT_MS + dice.randrange(100_000), *window),
        )
    )


@play
async def looks_requests_up(pool: Pool, dice: random.Random) -> Any:
    asked = _identities(dice)
    async with transaction(pool) as held:
        known = await books.known_generations(held, asked)
        ended = await admission_state.ended_of(held, asked)
        balances = await books.read_balances(held, USERS)
        state = await admission_state.load_state(held, 0, AT_MS + dice.randrange(200_000), POLICIES)
    windows = {name: {user: list(times) for user, times in log.items()} for name, log in state.windows._logs.items()}
    return sorted(known.items()), sorted(set(ended)), sorted(balances.items()), windows


@play
async def queues(pool: Pool, dice: random.Random) -> Any:
    async with transaction(pool) as held:
        await generations.queue_generations(held, dict.fromkeys(_identities(dice), dice.choice(TRACES)))


@play
async def settles(pool: Pool, dice: random.Random) -> Any:
    async with transaction(pool) as held:
        rows = await generations.lock_generations(held, _identities(dice))
        for row in rows.values():
            row.state = dice.choice([State.SUBMITTING, State.RUNNING, State.STORING, *State])
            row.prediction_id = dice.choice([row.prediction_id, row.prediction_id, None, f"run{dice.randrange(4)}"])
            row.output_urls = dice.choice([None, ["https://x/1"]])
            row.refunded = dice.randint(0, row.cost) if row.state in ENDED else row.refunded
            row.reason = dice.choice([None, "expired"])
        await generations.write_settled(held, list(rows.values()))
    return [(row.user_id, row.request_id, row.operation, row.cost, row.admitted_at_ms) for row in rows.values()]


@play
async def completes(pool: Pool, dice: random.Random) -> Any:
    picture = StoredImage(
        0, "images/aa/x.jpg", "thumbnails/aa/x.webp", 1, 2, dice.choice(["image/jpeg", "video/mp4"]), 3, "x"
    )
    run = f"run{dice.randrange(4)}"
    row = GalleryRow(f"{run}-0", "a", "r1", run, 0, "maya.image", "maya_chat", "p", picture)
    generation = Generation("a", f"r{dice.randrange(6)}", "maya.image", State.COMPLETED, 1, 0, run, "p", AT_MS)
    fact = ImagesStored(generation.request_id, "a", run, [picture])
    async with transaction(pool) as held:
        await generations.write_gallery(held, [(generation, fact)], [row], "https://images/")


@play
async def trains_and_strays(pool: Pool, dice: random.Random) -> Any:
    model = UserModel(
        dice.choice(USERS), f"v{dice.randrange(9)}", "TOK", f"r{dice.randrange(6)}", AT_MS + dice.randrange(3)
    )
    async with transaction(pool) as held:
        await user_models.write_user_models(held, [model])
        await strays.write_strays(held, [StrayRun(f"run{dice.randrange(4)}", "predictions", "a", "r1")])
    claimed = await strays.claim_strays(pool, wanted=9, look_after_s=LONG_S)
    for one in sorted(claimed, key=lambda one: one.prediction_id)[:1]:
        await strays.forget_stray(pool, one)
    return sorted(one.prediction_id for one in claimed)


@play
async def dispatches(pool: Pool, dice: random.Random) -> Any:
    some = await work.is_any_queued(pool)
    async with transaction(pool) as held:
        found = await work.claim_queued(
            *(held, PACE, MODELS),
            wanted=3,
            per_user_max=dice.randint(1, 2),
            per_hour_max=0,
            lease_s=dice.choice([0.0, LONG_S]),
            look_after_s=dice.choice([0.0, LONG_S]),
        )
    # Which of several is claimed depends on times in between; how many and of whom does not.
    return some, sorted((one.user_id, one.model.trigger_word, one.state) for one in found.works), found.started


@play
async def hears_of_runs(pool: Pool, dice: random.Random) -> Any:
    one, delay_s = _work(dice), dice.choice([0.0, LONG_S])
    kept = await work.keep_prediction(pool, one, f"run{dice.randrange(4)}", look_after_s=delay_s)
    handed = await work.hand_back(pool, _work(dice), delay_s=delay_s)
    await work.look_soon(pool, _work(dice), delay_s=delay_s)
    async with transaction(pool) as held:
        await work.mark_cancelled(held, _identities(dice))
    return kept, handed


@play
async def looks_after_runs(pool: Pool, dice: random.Random) -> Any:
    lease_s, look_s = dice.choice([0.0, LONG_S]), dice.choice([0.0, LONG_S])
    async with transaction(pool) as held:
        overdue = await work.claim_overdue(held, PACE, wanted=500, lease_s=lease_s, look_after_s=look_s)
    if dice.random() < 0.5:
        await work.release_overdue(pool, overdue)
    deadlines_s = dict.fromkeys(OPERATIONS, dice.choice([-1.0, LONG_S]))
    given_up = await work.claim_given_up(pool, wanted=500, look_after_s=look_s, deadlines_s=deadlines_s)
    taken = await work.taken_predictions(pool, ["run0", "run1", "run9"])
    rivals = await work.read_rivals(pool, [_work(dice)])
    return [sorted(map(_told, found)) for found in (overdue, given_up, rivals)], sorted(taken)


def _told(one: Work) -> tuple[Any, ...]:
    return (*one.identity, one.state, one.attempt, one.prediction_id or "", one.is_cancelled, one.model.reference)


@play
async def keeps(pool: Pool, dice: random.Random) -> Any:
    async with transaction(pool) as held:
        leased = await work.claim_storing(held, wanted=500, lease_s=dice.choice([0.0, LONG_S]))
    found = sorted(leased, key=lambda one: (one.user_id, one.request_id))
    for one in found:
        if dice.random() < 0.5:
            await work.put_off_storing(pool, one, delay_s=dice.choice([0.0, LONG_S]))
    await work.renew_storing(pool, found[:1], lease_s=LONG_S)
    return sorted((one.user_id, one.request_id, one.attempt, tuple(one.output_urls)) for one in found)


async def play_program(pool: Pool, seed: int, length: int) -> list[Any]:
    """What each step of the program gave, and what the rows are like in the end."""
    dice = random.Random(seed)
    given: list[Any] = []
    await _begin(pool, dice)
    for _ in range(length):
        chosen, step = (
            dice.choice([*PLAYS, dispatches, hears_of_runs, looks_after_runs, keeps]),
            random.Random(dice.random()),
        )
        try:
            result = await chosen(pool, step)
        except (asyncpg.PostgresError, Unavailable) as error:
            result = type(error).__name__
        given.append((chosen.__name__, result))
        await asyncio.sleep(0.002)  # so that times in rows differ
    async with connection(pool) as held:
        given.append(await rows_of(held))
    return given


async def _begin(pool: Pool, dice: random.Random) -> None:
    """Users with credits, and requests of theirs."""
    effects = admission.Effects()
    async with transaction(pool) as held:
        await books.make_accounts(held, USERS)
        accounts = await books.lock_accounts(held, USERS)
        entries = [account.move(200, "bonus", f"first-{user}") for user, account in accounts.items()]
        await books.write_entries(held, entries, list(accounts.values()))
        for user in USERS:
            for number in range(4):
                _admit(dice, effects, accounts[user], f"r{number}")
        await books.write_admissions(held, effects, 0)
        await generations.queue_generations(
            held, {(user, f"r{number}"): TRACES[number % 2] for user in USERS for number in range(3)}
        )


async def rows_of(held: Connection) -> Any:
    """The parts of all rows that do not depend on the time of playing."""
    async with held.transaction():
        locked = await generations.lock_generations(held, [(user, f"r{n}") for user in USERS for n in range(6)])
        accounts = await books.lock_accounts(held, USERS)
        grants = await books.known_grants(held, [f"g{number}" for number in range(20)])
    return (
        [(r.user_id, r.request_id, r.state, r.refunded, r.prediction_id, r.prompt) for r in locked.values()],
        [(a.user_id, a.balance, a.version) for a in accounts.values()],
        sorted(grants.items()),
    )
