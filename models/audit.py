"""The books' invariants, by name, each with the sentence that must be true.

How each one is counted is in adapters/sql/audit.sql; a violation is one user, request, picture, ledger entry or
partition for which the sentence is false.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.event_audit import EVENT_INVARIANTS

DEADLINE_SLACK_S = 5 * 60

INVARIANTS: dict[str, str] = {
    "balance_is_sum_of_ledger": "A user's balance is the sum of the user's ledger entries.",
    "versions_have_no_gaps": "A user's entries have the versions 1 to n, and n is the account's version.",
    "balances_follow_the_entries": "Each entry's balance is the one before it plus its amount.",
    "no_negative_balance": "No account and no entry has a balance below zero.",
    "one_charge_per_request": "A request that costs something has exactly one charge, one that is free has none.",
    "charges_match_requests": "A charge is its request's cost, to its user, at the version it was answered with.",
    "no_charge_without_request": "Every charge belongs to an admitted request.",
    "no_refund_without_request": "Every refund belongs to an admitted request of the same user.",
    "refunds_are_booked": "What a request says was given back is the sum of its refunds, and not more than its cost.",
    "one_whole_refund": "A whole refund is given once, and only for a failed or cancelled request.",
    "output_refunds_are_for_missing": "An output is refunded once, only if its set completed without it.",
    "failures_are_refunded": "A failed or cancelled request has been given back its whole cost.",
    "states_agree": "An ended request has an end time, an unfinished one has none; a completed one has a prediction.",
    "requests_end_in_time": "Every unfinished request is younger than its operation's deadline.",
    "one_request_per_prediction": "No prediction belongs to two requests.",
    "latest_training_is_the_model": "A user's model is that of the user's latest completed training; others have none.",
    "completed_in_gallery": "Every completed request but trainings, and no other, has its row in generated_images.",
    "every_picture_has_a_row": "A completed request has a row, of its own run, for each output, deleted or not.",
    "no_picture_of_unfinished": "No gallery row belongs to a request that has not completed.",
    "one_row_per_output": "A prediction's output has one row: of a picture, of a video, or of what was deleted.",
    "windows_within_limits": "At no moment had a user more admitted within a policy's window than it allowed then.",
    "redrives_are_counted": "The redrives of a dead letter and of what came back of it have the attempts 1 to n.",
    "dropped_letters_stay_dropped": "No dead letter is redriven after it was dropped.",
    "letters_come_back_from_redrives": "A letter that came back is the same record, from where a redrive has put it.",
    "progress_moves_forward": "No stream's next offset lies before its previous one.",
}

SENTENCES = INVARIANTS | EVENT_INVARIANTS


@dataclass(slots=True)
class Findings:
    """What an audit found: violations by invariant, with one example of each that has any."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(INVARIANTS, 0))
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def violations(self) -> int:
        """All together."""
        return sum(self.counts.values())

    def and_also(self, others: Findings) -> Findings:
        """Both together."""
        return Findings({**self.counts, **others.counts}, {**self.examples, **others.examples})

    def add(self, invariant: str, count: int, example: str | None) -> None:
        """Count violations of one invariant. Raises KeyError: there is none of this name."""
        self.counts[invariant] = self.counts[invariant] + count
        if count and example is not None:
            self.examples.setdefault(invariant, example)
