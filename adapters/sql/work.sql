-- name: any_queued
-- The dispatcher's cheap look: answered from the index of unfinished work.
SELECT EXISTS (SELECT FROM generations WHERE state = 'queued' AND due_at <= now());

-- name: make_pace
INSERT INTO provider_pace (name, next_at) VALUES ($1, now()) ON CONFLICT DO NOTHING;

-- name: lock_pace
-- Whoever holds this row claims; a second worker that comes meanwhile leaves the round to it.
SELECT extract(epoch FROM next_at)::float8 AS next_at_s, extract(epoch FROM clock_timestamp())::float8 AS now_s
  FROM provider_pace
 WHERE name = $1
   FOR UPDATE SKIP LOCKED;

-- name: read_pace
SELECT extract(epoch FROM next_at)::float8 AS next_at_s, extract(epoch FROM clock_timestamp())::float8 AS now_s
  FROM provider_pace
 WHERE name = $1
   FOR UPDATE;

-- name: write_pace
UPDATE provider_pace SET next_at = to_timestamp($2::float8) WHERE name = $1;

-- name: claim_queued
-- A round: everybody's first before anybody's second, the user served longest ago first. What is asked of the provider
-- is written down by the first attempt, so that a model which is trained meanwhile does not make a retry differ.
WITH offered AS (
    SELECT operation, reference, is_personal, deadline_s
      FROM unnest($5::text[], $6::text[], $7::boolean[], $8::float8[])
        AS offered (operation, reference, is_personal, deadline_s)
), waiting AS (
    SELECT user_id, request_id, queued_at,
           row_number() OVER (PARTITION BY user_id ORDER BY queued_at, request_id) AS turn
      FROM generations
      JOIN offered USING (operation)
     WHERE state = 'queued' AND due_at <= now() AND cancel_requested_at IS NULL
       AND coalesce(queued_at, admitted_at) > now() - make_interval(secs => deadline_s)
), chosen AS (
    SELECT w.user_id, w.request_id
      FROM waiting w
      LEFT JOIN provider_service s USING (user_id)
     WHERE w.turn <= $2
     ORDER BY w.turn, s.served_at NULLS FIRST, w.queued_at
     LIMIT $1
), locked AS (
    SELECT g.user_id, g.request_id, g.operation
      FROM generations g
      JOIN chosen c USING (user_id, request_id)
     WHERE g.state = 'queued' AND g.prediction_id IS NULL AND g.cancel_requested_at IS NULL
       FOR UPDATE OF g SKIP LOCKED
), claimed AS (
    UPDATE generations g
       SET state = 'submitting', attempts = g.attempts + 1, submitted_at = now(),
           lease_until = now() + make_interval(secs => $3::float8),
           due_at = now() + make_interval(secs => $4::float8),
           model = coalesce(g.model, CASE WHEN o.is_personal THEN m.version END, o.reference),
           trigger_word = coalesce(g.trigger_word, CASE WHEN o.is_personal THEN m.trigger_word END, '')
      FROM locked l
      JOIN offered o USING (operation)
      LEFT JOIN user_models m USING (user_id)
     WHERE g.user_id = l.user_id AND g.request_id = l.request_id
    RETURNING g.user_id, g.request_id, g.operation, g.prompt, g.options::text AS options, g.model, g.trigger_word, g.traceparent,
              g.state, g.prediction_id, g.attempts, false AS is_cancelled,
              extract(epoch FROM g.submitted_at)::float8 AS submitted_at_s,
              extract(epoch FROM now() - coalesce(g.queued_at, g.admitted_at))::float8 AS age_s
), served AS (
    INSERT INTO provider_service (user_id, served_at)
    SELECT DISTINCT user_id, now() FROM claimed
        ON CONFLICT (user_id) DO UPDATE SET served_at = excluded.served_at
), counted AS (
    INSERT INTO provider_starts AS held (minute, started)
    SELECT date_trunc('minute', now()), count(*) FROM claimed HAVING count(*) > 0
        ON CONFLICT (minute) DO UPDATE SET started = held.started + excluded.started
)
SELECT * FROM claimed;

-- name: started_lately
-- Whole minutes, so that no hour sees more than what is counted here.
SELECT coalesce(sum(started), 0)::bigint
  FROM provider_starts
 WHERE minute >= date_trunc('minute', now() - interval '1 hour');

-- name: give_start_back
-- The provider has refused: nothing was begun. Each attempt counts in the minute of its claim.
UPDATE provider_starts
   SET started = started - 1
 WHERE minute = (SELECT date_trunc('minute', submitted_at) FROM generations WHERE user_id = $1 AND request_id = $2);

-- name: keep_prediction
-- Once known, a prediction id stays. A row that was handed back meanwhile is taken again: its run exists. One that its
-- user has cancelled is due at once: its run is to be stopped.
UPDATE generations
   SET prediction_id = $3,
       state = CASE WHEN state = 'queued' THEN 'submitting' ELSE state END,
       lease_until = NULL,
       due_at = CASE WHEN cancel_requested_at IS NULL THEN now() + make_interval(secs => $4::float8) ELSE now() END
 WHERE user_id = $1 AND request_id = $2
   AND state IN ('queued', 'submitting', 'running')
   AND coalesce(prediction_id, $3) = $3
RETURNING state;

-- name: prediction_of
SELECT prediction_id FROM generations WHERE user_id = $1 AND request_id = $2;

-- name: look_soon
-- Still submitting: the reconciler asks the provider's list, adopts the run or queues the request again.
UPDATE generations
   SET lease_until = NULL, due_at = now() + make_interval(secs => $4::float8)
 WHERE user_id = $1 AND request_id = $2 AND attempts = $3 AND state = 'submitting' AND prediction_id IS NULL;

-- name: hand_back
-- Only where it is sure that nothing runs. `attempts` fences off whoever has claimed the row since. A cancelled one is
-- not claimed again, and ends without delay.
WITH handed AS (
    UPDATE generations
       SET state = 'queued', lease_until = NULL,
           due_at = CASE WHEN cancel_requested_at IS NULL THEN now() + make_interval(secs => $4::float8) ELSE now() END
     WHERE user_id = $1 AND request_id = $2 AND attempts = $3 AND state = 'submitting' AND prediction_id IS NULL
    RETURNING submitted_at
), counted AS (
    UPDATE provider_starts s
       SET started = s.started - 1
      FROM handed h
     WHERE s.minute = date_trunc('minute', h.submitted_at)
)
SELECT true FROM handed;

-- name: mark_cancelled
-- A known run is stopped at once. An unknown one is looked for when its start window has passed, as ever.
UPDATE generations g
   SET cancel_requested_at = coalesce(g.cancel_requested_at, now()),
       due_at = CASE WHEN g.prediction_id IS NULL THEN g.due_at ELSE now() END
  FROM unnest($1::text[], $2::text[]) AS asked (user_id, request_id)
 WHERE g.user_id = asked.user_id AND g.request_id = asked.request_id AND g.state IN ('submitting', 'running');

-- name: claim_overdue
WITH due AS (
    SELECT user_id, request_id
      FROM generations
     WHERE state IN ('submitting', 'running') AND due_at <= now()
       AND (lease_until IS NULL OR lease_until <= now())
       AND operation = ANY($4::text[])
     ORDER BY due_at
     LIMIT $1
       FOR UPDATE SKIP LOCKED
)
UPDATE generations g
   SET lease_until = now() + make_interval(secs => $2::float8), due_at = now() + make_interval(secs => $3::float8)
  FROM due d
 WHERE g.user_id = d.user_id AND g.request_id = d.request_id
RETURNING g.user_id, g.request_id, g.operation, g.prompt, g.options::text AS options, g.model, g.trigger_word, g.traceparent,
          g.state, g.prediction_id, g.attempts, g.cancel_requested_at IS NOT NULL AS is_cancelled,
          extract(epoch FROM g.submitted_at)::float8 AS submitted_at_s,
          extract(epoch FROM now() - coalesce(g.queued_at, g.admitted_at))::float8 AS age_s;

-- name: release_overdue
UPDATE generations g
   SET lease_until = NULL
  FROM unnest($1::text[], $2::text[]) AS held (user_id, request_id)
 WHERE g.user_id = held.user_id AND g.request_id = held.request_id AND g.state IN ('submitting', 'running');

-- name: claim_given_up
-- Queued for longer than a request may live, such as through a long outage of the provider; or cancelled while an
-- attempt was under way that has come to nothing. $2 and $3 are operations with their deadlines, $4 is the deadline of
-- any other.
WITH due AS (
    SELECT g.user_id, g.request_id
      FROM generations g
      LEFT JOIN unnest($2::text[], $3::float8[]) AS known (operation, deadline_s) USING (operation)
     WHERE g.state = 'queued' AND g.due_at <= now()
       AND (g.cancel_requested_at IS NOT NULL
            OR coalesce(g.queued_at, g.admitted_at) <= now() - make_interval(secs => coalesce(known.deadline_s, $4)))
     LIMIT $1
       FOR UPDATE OF g SKIP LOCKED
)
UPDATE generations g
   SET due_at = now() + make_interval(secs => $5::float8)
  FROM due d
 WHERE g.user_id = d.user_id AND g.request_id = d.request_id
RETURNING g.user_id, g.request_id, g.operation, g.prompt, g.options::text AS options, g.model, g.trigger_word, g.traceparent,
          g.state, g.prediction_id, g.attempts, g.cancel_requested_at IS NOT NULL AS is_cancelled,
          coalesce(extract(epoch FROM g.submitted_at), 0)::float8 AS submitted_at_s,
          extract(epoch FROM now() - coalesce(g.queued_at, g.admitted_at))::float8 AS age_s;

-- name: taken_predictions
SELECT prediction_id FROM generations WHERE prediction_id = ANY($1::text[]);

-- name: rivals
-- Requests that may be asking for the very same thing right now; $3 are operations that prompts do not tell apart.
SELECT user_id, request_id, operation, prompt, options::text AS options, model, trigger_word, traceparent, state,
       prediction_id, attempts, cancel_requested_at IS NOT NULL AS is_cancelled,
       extract(epoch FROM submitted_at)::float8 AS submitted_at_s, 0::float8 AS age_s
  FROM generations
 WHERE state = 'submitting' AND prediction_id IS NULL
   AND (prompt = ANY($1::text[]) OR operation = ANY($3::text[])) AND operation = ANY($2::text[])
 LIMIT 1000;

-- name: forget_service
DELETE FROM provider_service WHERE served_at < now() - interval '1 day';

-- name: forget_starts
DELETE FROM provider_starts WHERE minute < now() - interval '1 day';

-- name: claim_storing
WITH due AS (
    SELECT user_id, request_id
      FROM generations
     WHERE state = 'storing' AND due_at <= now() AND (lease_until IS NULL OR lease_until <= now())
     ORDER BY due_at
     LIMIT $1
       FOR UPDATE SKIP LOCKED
)
UPDATE generations g
   SET attempts = g.attempts + 1,
       lease_until = now() + make_interval(secs => $2::float8),
       due_at = now() + make_interval(secs => $2::float8)
  FROM due d
 WHERE g.user_id = d.user_id AND g.request_id = d.request_id
RETURNING g.user_id, g.request_id, g.operation, g.options::text AS options, g.prediction_id,
          g.output_urls::text AS output_urls, g.attempts, g.traceparent,
          coalesce(extract(epoch FROM now() - g.storing_at), 0)::float8 AS age_s,
          extract(epoch FROM coalesce(g.storing_at, g.admitted_at))::float8 AS storing_at_s;

-- name: renew_storing
UPDATE generations g
   SET lease_until = now() + make_interval(secs => $4::float8), due_at = now() + make_interval(secs => $4::float8)
  FROM unnest($1::text[], $2::text[], $3::integer[]) AS held (user_id, request_id, attempts)
 WHERE g.user_id = held.user_id AND g.request_id = held.request_id AND g.attempts = held.attempts
   AND g.state = 'storing';

-- name: put_off_storing
UPDATE generations
   SET lease_until = NULL, due_at = now() + make_interval(secs => $4::float8)
 WHERE user_id = $1 AND request_id = $2 AND attempts = $3 AND state = 'storing';
