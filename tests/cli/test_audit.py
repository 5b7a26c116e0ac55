"""The audit: clean books have no violation, and every invariant is caught when it is broken."""

from __future__ import annotations

import asyncpg
import pytest

from adapters.audit import audit
from models.audit import INVARIANTS, Findings

CHARGE = "reference_id = 'ada/picture' AND kind = 'charge'"
NEW_ENTRY = "INSERT INTO ledger (user_id, amount, kind, reference_id, balance_after, version)"

NEW_ACTION = (
    "INSERT INTO dead_letter_actions (reason, content, acted_by, action_id, letter_id, root_id, kind, attempt)"
    " VALUES ('bad_json', 'c', 'me'"
)

BREAKS: list[tuple[str, str]] = [
    ("balance_is_sum_of_ledger", "UPDATE accounts SET balance = balance + 1 WHERE user_id = 'ada'"),
    ("balance_is_sum_of_ledger", "DELETE FROM accounts WHERE user_id = 'dora'"),
    ("balance_is_sum_of_ledger", "INSERT INTO accounts (user_id, balance) VALUES ('eve', 3)"),
    ("versions_have_no_gaps", "UPDATE accounts SET version = version + 1 WHERE user_id = 'dora'"),
    ("versions_have_no_gaps", f"UPDATE ledger SET version = 90 WHERE {CHARGE}"),
    ("versions_have_no_gaps", "UPDATE ledger SET version = 2 WHERE user_id = 'dora'"),
    ("balances_follow_the_entries", f"UPDATE ledger SET balance_after = balance_after + 1 WHERE {CHARGE}"),
    ("no_negative_balance", "ALTER TABLE accounts DROP CONSTRAINT accounts_balance_check;"
                            "UPDATE accounts SET balance = -1 WHERE user_id = 'dora'"),
    ("no_negative_balance", "ALTER TABLE ledger DROP CONSTRAINT ledger_balance_after_check;"
                            f"UPDATE ledger SET balance_after = -1 WHERE {CHARGE}"),
    ("one_charge_per_request", f"DELETE FROM ledger WHERE {CHARGE}"),
    ("one_charge_per_request", "UPDATE generations SET cost = 0 WHERE request_id = 'picture'"),
    ("one_charge_per_request", "ALTER TABLE ledger DROP CONSTRAINT ledger_reference_id_kind_key;"
                               f"{NEW_ENTRY} VALUES ('ada', -1, 'charge', 'ada/picture', 0, 90)"),
    ("charges_match_requests", f"UPDATE ledger SET amount = -2 WHERE {CHARGE}"),
    ("charges_match_requests", f"UPDATE ledger SET user_id = 'dora' WHERE {CHARGE}"),
    ("charges_match_requests", "UPDATE generations SET balance = balance + 1 WHERE request_id = 'picture'"),
    ("no_charge_without_request", "DELETE FROM generations WHERE request_id = 'waiting'"),
    ("no_charge_without_request", f"{NEW_ENTRY} VALUES ('dora', -1, 'charge', 'dora/never', 6, 2)"),
    ("no_refund_without_request", f"{NEW_ENTRY} VALUES ('dora', 1, 'refund', 'dora/never', 8, 2)"),
    ("no_refund_without_request", "UPDATE ledger SET user_id = 'dora' WHERE kind = 'refund' AND user_id = 'ben'"),
    ("refunds_are_booked", "UPDATE generations SET refunded = 1 WHERE request_id = 'short'"),
    ("refunds_are_booked", "UPDATE generations SET refunded = 1 WHERE request_id = 'picture'"),
    ("refunds_are_booked", "DELETE FROM ledger WHERE kind = 'refund' AND reference_id = 'ada/short/3'"),
    ("one_whole_refund", f"{NEW_ENTRY} VALUES ('ada', 1, 'refund', 'ada/picture', 0, 90)"),
    ("one_whole_refund", "ALTER TABLE ledger DROP CONSTRAINT ledger_reference_id_kind_key;"
                         f"{NEW_ENTRY} VALUES ('ben', 4, 'refund', 'ben/failed', 0, 90)"),
    ("output_refunds_are_for_missing", f"{NEW_ENTRY} VALUES ('ada', 1, 'refund', 'ada/set/3', 0, 90)"),
    ("output_refunds_are_for_missing", "UPDATE generations SET state = 'storing' WHERE request_id = 'short'"),
    ("output_refunds_are_for_missing", f"{NEW_ENTRY} VALUES ('ada', 1, 'refund', 'ada/thinned/1', 0, 90)"),
    ("output_refunds_are_for_missing", f"{NEW_ENTRY} VALUES ('ada', 3, 'refund', 'ada/video/0', 0, 90)"),
    ("failures_are_refunded", "DELETE FROM ledger WHERE reference_id = 'ben/failed' AND kind = 'refund'"),
    ("states_agree", "UPDATE generations SET finished_at = NULL WHERE request_id = 'picture'"),
    ("states_agree", "UPDATE generations SET finished_at = now() WHERE request_id = 'waiting'"),
    ("states_agree", "UPDATE generations SET prediction_id = NULL WHERE request_id = 'picture'"),
    ("requests_end_in_time", "UPDATE generations SET admitted_at = now() - interval '41 minutes'"
                             " WHERE request_id = 'waiting'"),
    ("requests_end_in_time", "UPDATE generations SET admitted_at = now() - interval '66 minutes', state = 'running',"
                             " finished_at = NULL WHERE request_id = 'newer'"),
    ("one_request_per_prediction", "UPDATE generations SET prediction_id = 'p-ada-set' WHERE request_id = 'waiting'"),
    ("latest_training_is_the_model", "DELETE FROM user_models"),
    ("latest_training_is_the_model", "UPDATE user_models SET request_id = 'model'"),
    ("latest_training_is_the_model", "UPDATE generations SET state = 'failed' WHERE operation = 'training.model'"),
    ("completed_in_gallery", "DELETE FROM generated_images WHERE request_id = 'picture'"),
    ("completed_in_gallery", "UPDATE generations SET state = 'failed' WHERE request_id = 'picture'"),
    ("every_picture_has_a_row", "DELETE FROM ai_images WHERE request_id = 'set' AND output_index = 2"),
    ("every_picture_has_a_row", "UPDATE generated_images SET image_count = 3 WHERE request_id = 'set'"),
    ("every_picture_has_a_row", "UPDATE ai_images SET prediction_id = 'other' WHERE request_id = 'picture'"),
    ("every_picture_has_a_row", "DELETE FROM videos WHERE request_id = 'video'"),
    ("every_picture_has_a_row", "DELETE FROM deleted_outputs WHERE request_id = 'thinned'"),
    ("every_picture_has_a_row", "UPDATE deleted_outputs SET prediction_id = 'other' WHERE request_id = 'gone'"),
    ("no_picture_of_unfinished", "UPDATE videos SET request_id = 'waiting'"),
    ("no_picture_of_unfinished", "UPDATE ai_images SET request_id = 'waiting' WHERE request_id = 'picture'"),
    ("no_picture_of_unfinished", "DELETE FROM generations WHERE request_id = 'picture'"),
    ("one_row_per_output", "ALTER TABLE ai_images DROP CONSTRAINT ai_images_prediction_id_output_index_key;"
                           "UPDATE ai_images SET output_index = 0 WHERE request_id = 'set' AND output_index = 1"),
    ("one_row_per_output", "INSERT INTO deleted_outputs (prediction_id, output_index, user_id, request_id)"
                           " SELECT prediction_id, output_index, user_id, request_id FROM ai_images"),
    ("one_row_per_output", "UPDATE videos SET prediction_id = 'p-ada-picture'"),
    ("windows_within_limits", "UPDATE generations SET window_limit = 30 WHERE user_id = 'ben'"),
    ("redrives_are_counted", "UPDATE dead_letter_actions SET attempt = 3 WHERE attempt = 2"),
    ("redrives_are_counted", "DELETE FROM dead_letter_actions WHERE attempt = 1 AND kind = 'redriven'"),
    ("dropped_letters_stay_dropped", f"{NEW_ACTION}, 'again', 'in/0/9', 'in/0/7', 'redriven', 3)"),
    ("letters_come_back_from_redrives", "UPDATE dead_letter_actions SET to_offset = 6 WHERE attempt = 1"),
    ("letters_come_back_from_redrives", "UPDATE dead_letter_actions SET content = 'd' WHERE letter_id = 'in/0/7'"),
    ("letters_come_back_from_redrives", f"{NEW_ACTION}, 'odd', 'in/0/5', 'in/0/7', 'dropped', 2)"),
    ("progress_moves_forward", "ALTER TABLE stream_progress DROP CONSTRAINT stream_progress_check;"
                               "UPDATE stream_progress SET prev_offset = 50"),
]  # fmt: skip


async def found_after(books_url: str, statements: str) -> Findings:
    connection = await asyncpg.connect(books_url)
    await connection.execute(statements)
    await connection.close()
    return await audit(books_url)


async def test_clean_books_have_no_violation(books_url: str) -> None:
    findings = await audit(books_url)
    assert findings.counts == dict.fromkeys(INVARIANTS, 0)
    assert findings.violations == 0
    assert findings.examples == {}


async def test_the_books_under_test_hold_one_of_everything(books_url: str) -> None:
    connection = await asyncpg.connect(books_url)
    states = {row[0] for row in await connection.fetch("SELECT DISTINCT state FROM generations")}
    refunds = await connection.fetchval("SELECT count(*) FROM ledger WHERE kind = 'refund'")
    free = await connection.fetchval("SELECT count(*) FROM generations WHERE cost = 0")
    await connection.close()
    assert states == {"queued", "completed", "failed", "cancelled"}
    assert (refunds, free) == (4, 1)


@pytest.mark.parametrize(("invariant", "statements"), BREAKS)
async def test_a_broken_invariant_is_caught_by_its_name(books_url: str, invariant: str, statements: str) -> None:
    findings = await found_after(books_url, statements)
    assert findings.counts[invariant] >= 1
    assert findings.examples[invariant]


async def test_a_training_may_take_longer_than_a_picture(books_url: str) -> None:
    findings = await found_after(
        books_url,
        "UPDATE generations SET admitted_at = now() - interval '64 minutes', state = 'running', finished_at = NULL"
        " WHERE request_id = 'newer'",
    )
    assert findings.counts["requests_end_in_time"] == 0


def test_every_invariant_has_a_break() -> None:
    assert {invariant for invariant, _ in BREAKS} == set(INVARIANTS)


async def test_a_window_that_is_exactly_full_is_within_its_limit(books_url: str) -> None:
    """The 31st admission comes exactly one window after the first: the first has just left."""
    move = """
        UPDATE generations
           SET operation = 'maya.image', window_limit = 30, window_s = 60,
               admitted_at = timestamptz '2026-01-31 12:00:00+00'
                             + make_interval(secs => substring(request_id FROM 5)::int * 2.0)
         WHERE user_id = 'ben' AND request_id LIKE 'many%'"""
    findings = await found_after(books_url, move)
    assert findings.counts["windows_within_limits"] == 0
    nudge = """
        UPDATE generations SET admitted_at = admitted_at + interval '1 millisecond'
         WHERE user_id = 'ben' AND request_id = 'many0'"""
    findings = await found_after(books_url, nudge)
    assert findings.counts["windows_within_limits"] == 1


async def test_a_window_is_held_against_the_limit_of_its_own_moment(books_url: str) -> None:
    """A limit that was lowered later makes no violation of what was admitted before; shadow mode makes none at all."""
    later = "UPDATE generations SET window_limit = 5 WHERE user_id = 'ben' AND request_id = 'many0'"
    assert (await found_after(books_url, later)).counts["windows_within_limits"] == 0
    broken = "UPDATE generations SET window_limit = 5 WHERE user_id = 'ben' AND request_id = 'many30'"
    assert (await found_after(books_url, broken)).counts["windows_within_limits"] == 1
    shadow = "UPDATE generations SET window_limit = NULL, window_s = NULL WHERE request_id = 'many30'"
    assert (await found_after(books_url, shadow)).counts["windows_within_limits"] == 0


async def test_an_audit_sees_one_moment_only(books_url: str) -> None:
    """A charge that commits between two queries of an audit is not half of a violation."""
    from adapters.audit import audit_snapshot
    from models.operations import OPERATIONS

    auditing, writing = await asyncpg.connect(books_url), await asyncpg.connect(books_url)
    async with auditing.transaction(isolation="repeatable_read", readonly=True):
        await auditing.fetchval("SELECT count(*) FROM accounts")
        await writing.execute("DELETE FROM generations WHERE request_id = 'waiting'")
        findings = await audit_snapshot(auditing, OPERATIONS.values())
    await auditing.close()
    await writing.close()
    assert findings.violations == 0
    assert (await audit(books_url)).violations > 0
