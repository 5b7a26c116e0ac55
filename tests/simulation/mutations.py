"""Small breaks of the production code, each of which a simulation must notice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

import adapters.credit_fills
import agents.admit
import agents.cache
import agents.grants
import models.admission
import models.answers
import models.gallery
import models.grants
import models.lifecycle
import models.provider_work
import models.settlement
import services.keeper
import services.reconciler
import streams.delivery
from models.admission import Admission, PartitionState, Repeated
from models.errors import Unavailable
from models.lifecycle import Event, State
from models.outputs import EventStamp
from models.windows import WindowLog
from streams.delivery import DeliverySession

Break = Callable[[pytest.MonkeyPatch], None]


class _Anything:
    """Equal to whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def skip_the_fence(patch: pytest.MonkeyPatch) -> None:
    async def lock_progress(connection: Any, stream: str, partition: int) -> Any:
        return _Anything()

    patch.setattr(streams.delivery, "lock_progress", lock_progress)


def forget_to_charge(patch: pytest.MonkeyPatch) -> None:
    write = agents.admit.write_admissions

    async def write_admissions(connection: Any, effects: Any, partition: int) -> None:
        effects.entries.clear()
        await write(connection, effects, partition)

    patch.setattr(agents.admit, "write_admissions", write_admissions)


def decide_known_requests_again(patch: pytest.MonkeyPatch) -> None:
    async def known_generations(connection: Any, identities: Any) -> dict[Any, Any]:
        return {}

    patch.setattr(agents.admit, "known_generations", known_generations)


def admit_one_too_many(patch: pytest.MonkeyPatch) -> None:
    free_at_ms = WindowLog.free_at_ms

    def free(self: WindowLog, policy: Any, user_id: str, at_ms: int) -> int:
        return free_at_ms(self, replace(policy, limit=policy.limit + 1), user_id, at_ms)

    patch.setattr(WindowLog, "free_at_ms", free)


def count_what_has_just_left_the_window(patch: pytest.MonkeyPatch) -> None:
    free_at_ms = WindowLog.free_at_ms
    patch.setattr(WindowLog, "free_at_ms", lambda self, policy, user, at_ms: free_at_ms(self, policy, user, at_ms - 1))


def name_events_anew_each_time(patch: pytest.MonkeyPatch) -> None:
    headers, numbers = EventStamp.headers, itertools.count()
    patch.setattr(
        EventStamp,
        "headers",
        lambda self, event_id, trace=None: headers(self, f"{event_id}/{next(numbers)}", trace),
    )


def publish_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def transaction(pool: Any) -> AsyncIterator[Any]:
        acquiring = pool.acquire(timeout=1.0)
        held = await acquiring.__aenter__()
        begun = held.transaction()
        await begun.__aenter__()
        try:
            yield held
        except BaseException as error:
            await begun.__aexit__(type(error), error, error.__traceback__)
            raise

        async def commit_later() -> None:
            await asyncio.sleep(0.02)
            await begun.__aexit__(None, None, None)

        patch.setattr(transaction, "last", asyncio.ensure_future(commit_later()), raising=False)

    patch.setattr(streams.delivery, "transaction", transaction)


def give_no_answer_to_repeated_requests(patch: pytest.MonkeyPatch) -> None:
    render = models.answers.render

    def render_others(records: Any, inputs: Any, decisions: Any) -> Any:
        kept = [row for row in zip(records, inputs, decisions, strict=True) if not isinstance(row[2], Repeated)]
        return render(*zip(*kept, strict=True)) if kept else []

    patch.setattr(models.answers, "render", render_others)


def tell_a_wrong_time_to_come_again(patch: pytest.MonkeyPatch) -> None:
    refusal = models.admission.RateLimited
    patch.setattr(models.admission, "RateLimited", lambda *given: refusal(*given[:4], given[4] + 1))


def ignore_conflicts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Admission, "is_of", lambda self, request: True)


def publish_nothing_again_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    async def replay(self: DeliverySession, records: Any) -> None:
        return None

    patch.setattr(DeliverySession, "_replay", replay)


def give_up_publishing_at_the_first_error(patch: pytest.MonkeyPatch) -> None:
    async def publish(self: DeliverySession, outputs: Any) -> None:
        try:
            await self._delivery.publisher.publish(self._partition, outputs)
        except Unavailable:
            return

    patch.setattr(DeliverySession, "_publish", publish)


def let_time_run_backwards(patch: pytest.MonkeyPatch) -> None:
    apply = agents.admit.AdmitStep.apply

    async def forget_the_clock(self: Any, connection: Any, batch: Any) -> Any:
        return await apply(self, connection, batch._replace(clock_ms=0))

    patch.setattr(agents.admit.AdmitStep, "apply", forget_the_clock)


def begin_with_empty_windows(patch: pytest.MonkeyPatch) -> None:
    async def load_state(*given: Any) -> PartitionState:
        return PartitionState()

    patch.setattr(agents.admit, "load_state", load_state)


def keep_state_of_what_was_rolled_back(patch: pytest.MonkeyPatch) -> None:
    def keep(self: Any, state: Any) -> None:
        if state is not None:
            self.__dict__["state"] = state

    patch.setattr(DeliverySession, "_state", property(lambda self: self.__dict__["state"], keep), raising=False)


def decide_misrouted_requests_where_they_are(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agents.admit, "is_at_home", lambda *given: True)


def book_grants_again(patch: pytest.MonkeyPatch) -> None:
    async def known_grants(connection: Any, grant_ids: Any) -> dict[str, Any]:
        return {}

    patch.setattr(agents.grants, "known_grants", known_grants)


def book_what_is_taken_for_another(patch: pytest.MonkeyPatch) -> None:
    decide = models.grants.decide

    def decide_kindly(inputs: Any, facts: Any) -> Any:
        for grant in inputs:
            if getattr(grant, "grant_id", None) in facts.known:
                facts.known[grant.grant_id] = (grant.user_id, grant.amount, grant.kind)
        return decide(inputs, facts)

    patch.setattr(models.grants, "decide", decide_kindly)


def give_back_too_much(patch: pytest.MonkeyPatch) -> None:
    refund = models.settlement.refund
    patch.setattr(models.settlement, "refund", lambda row, amount, *rest: refund(row, amount * 2, *rest))


def give_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(models.settlement, "refund_all", lambda *given: None)


def give_back_again_when_told_again(patch: pytest.MonkeyPatch) -> None:
    def refund_all(generation: Any, accounts: Any, effects: Any) -> Any:
        reference = f"{generation.user_id}/{generation.request_id}/again/{generation.refunded}"
        return models.settlement.refund(generation, generation.cost, reference, accounts, effects)

    transitions = dict(models.lifecycle.TRANSITIONS)
    for event in (Event.PROVIDER_FAILED, Event.CANCELED, Event.EXPIRED):
        transitions[State.FAILED, event] = transitions[State.RUNNING, event]
    patch.setattr(models.lifecycle, "TRANSITIONS", transitions)
    patch.setattr(models.settlement, "refund_all", refund_all)


def keep_the_credits_of_missing_pictures(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(models.gallery, "_refund_missing", lambda *given: [])


def believe_whatever_run_speaks(patch: pytest.MonkeyPatch) -> None:
    decide = models.settlement._decide_one

    def believe(fact: Any, facts: Any, effects: Any) -> Any:
        row = facts.generations.get((getattr(fact, "user_id", ""), getattr(fact, "request_id", "")))
        if row is not None and row.prediction_id and fact.prediction_id:
            fact = msgspec.structs.replace(fact, prediction_id=row.prediction_id)
        return decide(fact, facts, effects)

    patch.setattr(models.settlement, "_decide_one", believe)


def never_give_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(services.reconciler.Reconciler, "_is_late", lambda self, work: False)


def never_ask_the_provider(patch: pytest.MonkeyPatch) -> None:
    async def claim_overdue(*given: Any, **more: Any) -> list[Any]:
        return []

    patch.setattr(services.reconciler, "claim_overdue", claim_overdue)


def give_users_a_wrong_model(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(models.settlement, "version_trained", lambda body: "maker/other:1")


def store_pictures_of_missing_outputs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(services.keeper, "outputs_expected", lambda operation, options: 1)


def end_what_was_never_asked_to_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        models.provider_work, "given_up", lambda work: models.provider_work.updated(work, {}, "deadline", "canceled")
    )
    patch.setattr(services.reconciler, "given_up", models.provider_work.given_up)


def cache_the_earliest_change_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    digest = agents.cache.digest
    patch.setattr(agents.cache, "digest", lambda records, now_ms: digest(records[:1], now_ms))


def never_move_the_cache(patch: pytest.MonkeyPatch) -> None:
    async def project(self: Any, records: Any) -> list[Any]:
        return []

    patch.setattr(agents.cache.CacheProjector, "project", project)


def fill_the_cache_with_what_is_not_so(patch: pytest.MonkeyPatch) -> None:
    read = adapters.credit_fills.read_balances

    async def read_balances(connection: Any, user_ids: Any) -> Any:
        found = await read(connection, user_ids)
        return {user: row._replace(balance=row.balance + 1) for user, row in found.items()}

    patch.setattr(adapters.credit_fills, "read_balances", read_balances)


FULFILMENT: list[Break] = [
    give_back_too_much,
    give_nothing_back,
    give_back_again_when_told_again,
    keep_the_credits_of_missing_pictures,
    believe_whatever_run_speaks,
    never_give_up,
    never_ask_the_provider,
    give_users_a_wrong_model,
    store_pictures_of_missing_outputs,
    end_what_was_never_asked_to_end,
    cache_the_earliest_change_of_a_batch,
    never_move_the_cache,
    fill_the_cache_with_what_is_not_so,
]
ADMISSION: list[Break] = [
    skip_the_fence,
    forget_to_charge,
    decide_known_requests_again,
    admit_one_too_many,
    count_what_has_just_left_the_window,
    name_events_anew_each_time,
    publish_before_the_commit,
    give_no_answer_to_repeated_requests,
    tell_a_wrong_time_to_come_again,
    ignore_conflicts,
    publish_nothing_again_after_a_crash,
    give_up_publishing_at_the_first_error,
    let_time_run_backwards,
    begin_with_empty_windows,
    keep_state_of_what_was_rolled_back,
    decide_misrouted_requests_where_they_are,
    book_grants_again,
    book_what_is_taken_for_another,
]
