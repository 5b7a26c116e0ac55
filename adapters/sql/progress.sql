-- name: make_progress
INSERT INTO stream_progress (stream, partition) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: read_progress
SELECT prev_offset, next_offset, clock_ms, decisions FROM stream_progress WHERE stream = $1 AND partition = $2;

-- name: lock_progress
-- The first statement of every step: an old owner's open transaction is waited for here, before anything is read.
SELECT next_offset FROM stream_progress WHERE stream = $1 AND partition = $2 FOR UPDATE;

-- name: write_progress
UPDATE stream_progress
   SET prev_offset = next_offset, next_offset = $3, clock_ms = $4, decisions = $5, updated_at = now()
 WHERE stream = $1 AND partition = $2;
