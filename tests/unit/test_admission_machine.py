"""Admission through restarts, policy changes, duplicates and clock steps, against a reference that keeps everything.

The rows that admission writes are the only memory that survives a restart; the reference remembers each admission
with its time and never forgets one.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from models import admission
from models.accounts import Account
from models.admission import (
    Admission,
    Admitted,
    Facts,
    InsufficientCredits,
    PartitionState,
    RateLimited,
    Repeated,
    TooManyInFlight,
)
from models.operations import OPERATIONS, POLICIES, Mode, Policy
from models.requests import read_request
from tests.unit.records import FakeRecord, request_value

USERS = ("ann", "bob")
NAMES = ("maya.image", "studio.images")


class AdmissionMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.policies: dict[str, Policy] = dict(POLICIES)
        self.now_ms = 1_000_000
        self.clock_ms = 0
        self.rows: list[Admission] = []
        self.ended: set[tuple[str, str]] = set()
        self.accounts = dict.fromkeys(USERS, (20, 1))
        self.number = 0
        self.state = PartitionState()
        for policy in self.policies.values():
            self.change(policy.name, limit=3, window_s=2, mode=Mode.ENFORCE, cap=None)
        self.restart()

    @rule(pause_ms=st.integers(0, 1_500))
    def time_passes(self, pause_ms: int) -> None:
        self.now_ms += pause_ms

    @rule(back_ms=st.integers(1, 500))
    def the_broker_s_clock_steps_back(self, back_ms: int) -> None:
        self.now_ms -= back_ms

    @rule()
    def restart(self) -> None:
        """A crash, a takeover: all that is not in the rows is gone."""
        self.state = PartitionState()
        for policy in self.policies.values():
            self._load_windows(policy)
            if policy.max_in_flight is not None:
                self._load_in_flight(policy)

    @rule(
        name=st.sampled_from(NAMES),
        limit=st.integers(0, 4),
        window_s=st.integers(1, 4),
        mode=st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW]),
        cap=st.none() | st.integers(1, 3),
    )
    def change(self, name: str, limit: int, window_s: int, mode: Mode, cap: int | None) -> None:
        policy = replace(self.policies[name], limit=limit, window_s=window_s, mode=mode, max_in_flight=cap)
        self.policies[name] = policy
        # What adapters/admission_state.py does at the next batch.
        if not self.state.windows.keeps_enough(policy):
            self._load_windows(policy)
        if cap is None:
            self.state.in_flight.stop(policy)
        elif not self.state.in_flight.counts(policy):
            self._load_in_flight(policy)

    @rule(data=st.data())
    def one_ends(self, data: st.DataObject) -> None:
        open_ones = [(row.user_id, row.request_id) for row in self.rows]
        open_ones = [identity for identity in open_ones if identity not in self.ended]
        if open_ones:
            self.ended.add(data.draw(st.sampled_from(open_ones)))

    @rule(user=st.sampled_from(USERS), amount=st.integers(1, 5))
    def credits_come(self, user: str, amount: int) -> None:
        balance, version = self.accounts[user]
        self.accounts[user] = (balance + amount, version + 1)

    @rule(
        batch=st.lists(
            st.tuples(st.sampled_from(USERS), st.sampled_from(NAMES), st.integers(0, 300), st.booleans()),
            min_size=1,
            max_size=6,
        )
    )
    def a_batch_comes(self, batch: list[tuple[str, str, int, bool]]) -> None:
        records = []
        for user, name, pause_ms, repeats in batch:
            self.now_ms += pause_ms
            self.number += not repeats
            value = request_value(f"r{self.number}", user, operation=name)
            records.append(FakeRecord(value, user.encode(), timestamp=self.now_ms))
        inputs = [read_request(record.key, record.value) for record in records]
        known = {(row.user_id, row.request_id): row for row in self.rows}
        accounts = {user: Account(user, *self.accounts[user]) for user in USERS}
        asked = [(OPERATIONS[name].policy.name, user) for user, name, _, _ in batch]
        doubtful = self.state.in_flight.doubtful(asked, self.policies)
        self.state.in_flight.forget([identity for identity in doubtful if identity in self.ended])
        before = [(row.user_id, row.request_id, row.operation, row.admitted_at_ms) for row in self.rows]
        decisions, effects, clock_ms = admission.decide(
            records, inputs, Facts(accounts, known), self.state, self.policies, self.clock_ms
        )
        self._hold_against_the_reference(records, batch, decisions, before)
        self.rows += effects.generations
        self.clock_ms = clock_ms
        for user, account in effects.changed.items():
            self.accounts[user] = (account.balance, account.version)

    def _hold_against_the_reference(
        self,
        records: list[FakeRecord],
        batch: list[tuple[str, str, int, bool]],
        decisions: list[admission.Decision],
        rows: list[tuple[str, str, str, int]],
    ) -> None:
        clock_ms = self.clock_ms
        balances = {user: balance for user, (balance, _) in self.accounts.items()}
        for record, (user, name, _, _), decision in zip(records, batch, decisions, strict=True):
            clock_ms = max(clock_ms, record.timestamp)
            policy, cost = self.policies[name], OPERATIONS[name].cost
            request_id = read_request(record.key, record.value).request_id  # type: ignore[union-attr]
            if any((row[0], row[1]) == (user, request_id) for row in rows):
                assert isinstance(decision, Repeated | admission.Conflicting)
                continue
            times = [row[3] for row in rows if (row[0], row[2]) == (user, name)]
            inside = [at_ms for at_ms in times if clock_ms - policy.window_ms < at_ms <= clock_ms]
            under_way = [r for r in rows if (r[0], r[2]) == (user, name) and (r[0], r[1]) not in self.ended]
            if policy.mode is Mode.ENFORCE and len(inside) >= policy.limit:
                assert isinstance(decision, RateLimited)
                if policy.limit:
                    free_ms = sorted(inside)[len(inside) - policy.limit] + policy.window_ms
                    assert decision.retry_after_ms == free_ms - record.timestamp
            elif (
                policy.mode is Mode.ENFORCE
                and policy.max_in_flight is not None
                and len(under_way) >= policy.max_in_flight
            ):
                assert isinstance(decision, TooManyInFlight)
            elif balances[user] < cost:
                assert isinstance(decision, InsufficientCredits)
            else:
                assert isinstance(decision, Admitted)
                balances[user] -= cost
                rows.append((user, request_id, name, clock_ms))

    @invariant()
    def no_balance_is_negative(self) -> None:
        assert all(balance >= 0 for balance, _ in getattr(self, "accounts", {}).values())

    def _load_windows(self, policy: Policy) -> None:
        self.state.windows.restart(policy)
        for row in self._rows_of(policy):
            if row.admitted_at_ms > self.clock_ms - policy.window_ms:
                self.state.windows.add(policy, row.user_id, row.admitted_at_ms)

    def _load_in_flight(self, policy: Policy) -> None:
        self.state.in_flight.restart(policy)
        for row in self._rows_of(policy):
            if (row.user_id, row.request_id) not in self.ended:
                self.state.in_flight.add(policy, row.user_id, row.request_id, row.admitted_at_ms)

    def _rows_of(self, policy: Policy) -> list[Admission]:
        return [row for row in self.rows if OPERATIONS[row.operation].policy.name == policy.name]


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
