-- name: write_strays
INSERT INTO stray_runs (prediction_id, collection, user_id, request_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    ON CONFLICT DO NOTHING;

-- name: claim_strays
WITH due AS (
    SELECT prediction_id
      FROM stray_runs
     WHERE due_at <= now()
     ORDER BY due_at
     LIMIT $1
       FOR UPDATE SKIP LOCKED
)
UPDATE stray_runs s
   SET due_at = now() + make_interval(secs => $2::float8)
  FROM due d
 WHERE s.prediction_id = d.prediction_id
RETURNING s.prediction_id, s.collection, s.user_id, s.request_id;

-- name: forget_stray
DELETE FROM stray_runs WHERE prediction_id = $1;
