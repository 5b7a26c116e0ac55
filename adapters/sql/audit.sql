-- name: accounts
-- Each account against its entries; a user with entries and no account counts with a balance and version of 0.
WITH entries AS (
    SELECT user_id, sum(amount) AS total, count(*) AS entries, min(version) AS first, max(version) AS last,
           count(DISTINCT version) AS versions
      FROM ledger
     GROUP BY user_id
), users AS (
    SELECT user_id,
           coalesce(a.balance, 0) <> coalesce(e.total, 0) AS unbalanced,
           coalesce(a.version, 0) <> coalesce(e.last, 0)
               OR coalesce(e.first, 1) <> 1
               OR coalesce(e.entries, 0) <> coalesce(e.last, 0)
               OR coalesce(e.versions, 0) <> coalesce(e.entries, 0) AS gaps,
           coalesce(a.balance, 0) < 0 AS negative
      FROM accounts a
      FULL JOIN entries e USING (user_id)
)
SELECT count(*) FILTER (WHERE unbalanced)          AS balance_is_sum_of_ledger,
       min(user_id) FILTER (WHERE unbalanced)      AS balance_is_sum_of_ledger_example,
       count(*) FILTER (WHERE gaps)                AS versions_have_no_gaps,
       min(user_id) FILTER (WHERE gaps)            AS versions_have_no_gaps_example,
       count(*) FILTER (WHERE negative)            AS no_negative_balance,
       min(user_id) FILTER (WHERE negative)        AS no_negative_balance_example
  FROM users;

-- name: chain
-- Each entry against the one before it.
WITH chain AS (
    SELECT reference_id, balance_after,
           lag(balance_after, 1, 0::bigint) OVER (PARTITION BY user_id ORDER BY version) + amount AS expected
      FROM ledger
)
SELECT count(*) FILTER (WHERE balance_after <> expected)         AS balances_follow_the_entries,
       min(reference_id) FILTER (WHERE balance_after <> expected) AS balances_follow_the_entries_example,
       count(*) FILTER (WHERE balance_after < 0)                 AS no_negative_balance,
       min(reference_id) FILTER (WHERE balance_after < 0)        AS no_negative_balance_example
  FROM chain;

-- name: charges
-- Each admitted request against its charge. Stacked and grouped once, which is half the work of a join of texts.
WITH stacked AS (
    SELECT reference_id AS name, user_id, amount, version, balance_after, 1 AS charges, 0 AS requests, 0 AS due
      FROM ledger
     WHERE kind = 'charge'
     UNION ALL
    SELECT user_id || '/' || request_id, user_id, -cost, version, balance, 0, 1, (cost > 0)::int
      FROM generations
), requests AS (
    SELECT name, sum(charges) AS charges, sum(requests) AS requests, sum(due) AS due,
           min(amount) <> max(amount) OR min(version) <> max(version) OR min(balance_after) <> max(balance_after)
               OR min(user_id) <> max(user_id) AS differing
      FROM stacked
     GROUP BY name
), judged AS (
    SELECT name,
           requests > 0 AND charges <> due AS miscounted,
           requests > 0 AND charges = 1 AND due = 1 AND differing AS mismatched,
           requests = 0 AS orphaned
      FROM requests
)
SELECT count(*) FILTER (WHERE miscounted)   AS one_charge_per_request,
       min(name) FILTER (WHERE miscounted)  AS one_charge_per_request_example,
       count(*) FILTER (WHERE mismatched)   AS charges_match_requests,
       min(name) FILTER (WHERE mismatched)  AS charges_match_requests_example,
       count(*) FILTER (WHERE orphaned)     AS no_charge_without_request,
       min(name) FILTER (WHERE orphaned)    AS no_charge_without_request_example
  FROM judged;

-- name: refunds
-- Each request against its refunds; a reference of three parts refunds one output of a set.
WITH entries AS (
    SELECT user_id AS paid_to, amount, reference_id,
           split_part(reference_id, '/', 1) AS user_id,
           split_part(reference_id, '/', 2) AS request_id,
           split_part(reference_id, '/', 3) AS output
      FROM ledger
     WHERE kind = 'refund'
), by_request AS (
    SELECT user_id, request_id, sum(amount) AS total,
           count(*) FILTER (WHERE output = '') AS whole,
           count(*) FILTER (WHERE output <> '') AS outputs,
           count(DISTINCT output) FILTER (WHERE output <> '') AS distinct_outputs,
           bool_or(paid_to <> user_id) AS misdirected
      FROM entries
     GROUP BY user_id, request_id
), delivered AS (
    SELECT user_id, request_id, output_index FROM ai_images
     UNION ALL
    SELECT user_id, request_id, output_index FROM videos
     UNION ALL
    SELECT user_id, request_id, output_index FROM deleted_outputs
), present AS (
    SELECT DISTINCT e.user_id, e.request_id
      FROM entries e
      JOIN delivered d ON d.user_id = e.user_id AND d.request_id = e.request_id AND d.output_index::text = e.output
), pairs AS (
    SELECT coalesce(g.user_id, r.user_id) || '/' || coalesce(g.request_id, r.request_id) AS name,
           g.user_id IS NULL OR coalesce(r.misdirected, false) AS orphaned,
           g.user_id IS NOT NULL AND (coalesce(r.total, 0) <> g.refunded OR coalesce(r.total, 0) > g.cost) AS unbooked,
           coalesce(r.whole, 0) > CASE WHEN g.state IN ('failed', 'cancelled') THEN 1 ELSE 0 END AS whole_twice,
           coalesce(r.outputs, 0) > 0
               AND (g.state IS DISTINCT FROM 'completed' OR r.outputs <> r.distinct_outputs OR p.user_id IS NOT NULL)
               AS not_missing,
           g.state IN ('failed', 'cancelled') AND coalesce(r.total, 0) < g.cost AS unpaid
      FROM by_request r
      FULL JOIN (SELECT user_id, request_id, state, cost, refunded FROM generations
                  WHERE refunded <> 0 OR state IN ('failed', 'cancelled')
                     OR (user_id, request_id) IN (SELECT user_id, request_id FROM by_request)) g
           USING (user_id, request_id)
      LEFT JOIN present p USING (user_id, request_id)
)
SELECT count(*) FILTER (WHERE orphaned)     AS no_refund_without_request,
       min(name) FILTER (WHERE orphaned)    AS no_refund_without_request_example,
       count(*) FILTER (WHERE unbooked)     AS refunds_are_booked,
       min(name) FILTER (WHERE unbooked)    AS refunds_are_booked_example,
       count(*) FILTER (WHERE whole_twice)  AS one_whole_refund,
       min(name) FILTER (WHERE whole_twice) AS one_whole_refund_example,
       count(*) FILTER (WHERE not_missing)  AS output_refunds_are_for_missing,
       min(name) FILTER (WHERE not_missing) AS output_refunds_are_for_missing_example,
       count(*) FILTER (WHERE unpaid)       AS failures_are_refunded,
       min(name) FILTER (WHERE unpaid)      AS failures_are_refunded_example
  FROM pairs;

-- name: states
-- Each request by itself; $1 are operations, $2 how old an unfinished request of each may be, $3 how old one of any other.
WITH requests AS (
    SELECT g.user_id || '/' || g.request_id AS name,
           (g.state IN ('completed', 'failed', 'cancelled')) <> (g.finished_at IS NOT NULL)
               OR (g.state = 'completed' AND g.prediction_id IS NULL) AS disagreeing,
           g.state NOT IN ('completed', 'failed', 'cancelled')
               AND g.admitted_at < now() - coalesce(known.oldest, $3::interval) AS overdue
      FROM generations g
      LEFT JOIN unnest($1::text[], $2::interval[]) AS known (operation, oldest) USING (operation)
)
SELECT count(*) FILTER (WHERE disagreeing)  AS states_agree,
       min(name) FILTER (WHERE disagreeing) AS states_agree_example,
       count(*) FILTER (WHERE overdue)      AS requests_end_in_time,
       min(name) FILTER (WHERE overdue)     AS requests_end_in_time_example
  FROM requests;

-- name: predictions
WITH shared AS (
    SELECT prediction_id
      FROM generations
     WHERE prediction_id IS NOT NULL
     GROUP BY prediction_id
    HAVING count(*) > 1
)
SELECT count(*) AS one_request_per_prediction, min(prediction_id) AS one_request_per_prediction_example
  FROM shared;

-- name: models
-- Each user's model against the user's completed trainings, whose operations are $1.
WITH latest AS (
    SELECT DISTINCT ON (user_id) user_id, request_id
      FROM generations
     WHERE state = 'completed' AND operation = ANY($1::text[])
     ORDER BY user_id, admitted_at DESC, request_id COLLATE "C" DESC
)
SELECT count(*) AS latest_training_is_the_model,
       min(coalesce(l.user_id, m.user_id)) AS latest_training_is_the_model_example
  FROM latest l
  FULL JOIN user_models m USING (user_id)
 WHERE l.request_id IS DISTINCT FROM m.request_id;

-- name: gallery
-- Each request against its row of generated_images and its gallery rows, stacked and grouped once. A picture that its
-- user has deleted has left a row of deleted_outputs in its place. $1 are operations that make no files.
WITH stacked AS (
    SELECT user_id, request_id, prediction_id,
           (state = 'completed' AND operation <> ALL($1::text[]))::int AS completed, 0 AS sets, 0 AS expected,
           0 AS pictures
      FROM generations
     UNION ALL
    SELECT user_id, request_id, prediction_id, 0, 1, image_count, 0
      FROM generated_images
     UNION ALL
    SELECT user_id, request_id, prediction_id, 0, 0, 0, 1
      FROM ai_images
     UNION ALL
    SELECT user_id, request_id, prediction_id, 0, 0, 0, 1
      FROM videos
     UNION ALL
    SELECT user_id, request_id, prediction_id, 0, 0, 0, 1
      FROM deleted_outputs
), requests AS (
    SELECT user_id, request_id, sum(completed) AS completed, sum(sets) AS sets, sum(expected) AS expected,
           sum(pictures) AS pictures, min(prediction_id) <> max(prediction_id) AS of_several_predictions
      FROM stacked
     GROUP BY user_id, request_id
), judged AS (
    SELECT user_id || '/' || request_id AS name,
           completed <> sets AS astray,
           sets > 0 AND (expected <> pictures OR of_several_predictions) AS short,
           completed = 0 AND pictures > 0 AS early
      FROM requests
)
SELECT count(*) FILTER (WHERE astray)  AS completed_in_gallery,
       min(name) FILTER (WHERE astray) AS completed_in_gallery_example,
       count(*) FILTER (WHERE short)   AS every_picture_has_a_row,
       min(name) FILTER (WHERE short)  AS every_picture_has_a_row_example,
       count(*) FILTER (WHERE early)   AS no_picture_of_unfinished,
       min(name) FILTER (WHERE early)  AS no_picture_of_unfinished_example
  FROM judged;

-- name: outputs
-- The unique keys say the same of each table; this holds between them, and when somebody has dropped one.
WITH rows AS (
    SELECT prediction_id, output_index FROM ai_images
     UNION ALL
    SELECT prediction_id, output_index FROM videos
     UNION ALL
    SELECT prediction_id, output_index FROM deleted_outputs
), outputs AS (
    SELECT prediction_id, output_index
      FROM rows
     GROUP BY prediction_id, output_index
    HAVING count(*) > 1
)
SELECT count(*) AS one_row_per_output, min(prediction_id) AS one_row_per_output_example
  FROM outputs;

-- name: enforced_windows
SELECT DISTINCT operation, window_s FROM generations WHERE window_limit IS NOT NULL;

-- name: window
-- One policy, recomputed from the admitted rows: $1 are its operations, $2 their weights, $3 one of the windows that it
-- has had, in seconds. An entry at t counts until just before t + window; admission times are whole milliseconds. Each
-- row is held against the limit of its own moment; of rows in one millisecond, between which a limit may have
-- changed, against the highest, and against none if one of them was admitted in shadow mode.
WITH weighted AS (
    SELECT g.user_id, g.request_id, g.window_s,
           sum(o.weight) OVER (PARTITION BY g.user_id ORDER BY g.admitted_at
                               RANGE BETWEEN (make_interval(secs => $3) - interval '1 microsecond') PRECEDING
                                         AND CURRENT ROW) AS used,
           max(g.window_limit) OVER moment AS allowed,
           bool_or(g.window_limit IS NULL) OVER moment AS is_free
      FROM generations g
      JOIN unnest($1::text[], $2::bigint[]) AS o (operation, weight) USING (operation)
    WINDOW moment AS (PARTITION BY g.user_id, g.admitted_at)
)
SELECT count(*) AS windows_within_limits, min(user_id || '/' || request_id) AS windows_within_limits_example
  FROM weighted
 WHERE window_s = $3 AND used > allowed AND NOT is_free;

-- name: progress
-- The table's own check says the same; this holds when somebody has dropped it.
SELECT count(*) AS progress_moves_forward, min(stream || '/' || partition) AS progress_moves_forward_example
  FROM stream_progress
 WHERE prev_offset > next_offset;

-- name: letters
-- What was done with dead letters, chain by chain. A letter that is not its chain's first is one that came back: it is
-- called by the place at which an earlier redrive of the chain was published.
WITH chains AS (
    SELECT root_id,
           min(attempt) <> 1 OR max(attempt) <> count(*) OR count(DISTINCT attempt) <> count(*) AS miscounted
      FROM dead_letter_actions
     WHERE kind = 'redriven'
     GROUP BY root_id
), actions AS (
    SELECT a.letter_id,
           a.kind = 'redriven' AND EXISTS (
               SELECT FROM dead_letter_actions d
                WHERE d.letter_id = a.letter_id AND d.kind = 'dropped' AND d.action_no < a.action_no) AS revived,
           a.letter_id <> a.root_id AND NOT EXISTS (
               SELECT FROM dead_letter_actions b
                WHERE b.root_id = a.root_id AND b.kind = 'redriven' AND b.action_no < a.action_no
                  AND b.content = a.content
                  AND b.to_topic || '/' || b.to_partition || '/' || b.to_offset = a.letter_id) AS stray
      FROM dead_letter_actions a
)
SELECT (SELECT count(*) FROM chains WHERE miscounted)       AS redrives_are_counted,
       (SELECT min(root_id) FROM chains WHERE miscounted)   AS redrives_are_counted_example,
       count(*) FILTER (WHERE revived)                      AS dropped_letters_stay_dropped,
       min(letter_id) FILTER (WHERE revived)                AS dropped_letters_stay_dropped_example,
       count(*) FILTER (WHERE stray)                        AS letters_come_back_from_redrives,
       min(letter_id) FILTER (WHERE stray)                  AS letters_come_back_from_redrives_example
  FROM actions;
