-- name: claim_round
-- $1 is when the next round may begin. Nobody else's before that, and none while a batch is open that broke off less
-- than $2 seconds ago: its deletions may still be on their way.
UPDATE object_sweep
   SET next_at = now() + make_interval(secs => $1::float8)
 WHERE name = 'objects' AND next_at <= now()
   AND (began_at IS NULL OR began_at <= ended_at OR began_at < now() - make_interval(secs => $2::float8))
RETURNING position;

-- name: orphans
-- Objects ($1 keys, $2 their digests, $3 when they were put) that are older than $4 seconds and that no row has. What
-- was put while a request was storing may yet get its row, however long that takes: only what is older than the oldest
-- such request counts, less $5 seconds for the store's clock. One statement, so that a request that completes
-- meanwhile is seen either storing or with its rows.
SELECT key
  FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS found (key, sha256, put_at)
 WHERE put_at < least(
           now() - make_interval(secs => $4::float8),
           (SELECT min(coalesce(storing_at, admitted_at)) FROM generations WHERE state = 'storing')
               - make_interval(secs => $5::float8))
   AND NOT EXISTS (SELECT FROM ai_images i WHERE i.sha256 = found.sha256)
   AND NOT EXISTS (SELECT FROM videos v WHERE v.sha256 = found.sha256);

-- name: lock
-- Held by the connection, so by nobody who has died. The number is ours alone.
SELECT pg_try_advisory_lock(7251105);

-- name: unlock
SELECT pg_advisory_unlock(7251105);

-- name: begin_batch
UPDATE object_sweep
   SET began_at = clock_timestamp(), batch_position = $1
 WHERE name = 'objects'
   AND (began_at IS NULL OR began_at <= ended_at OR began_at < now() - make_interval(secs => $2::float8))
RETURNING true;

-- name: end_batch
UPDATE object_sweep SET ended_at = clock_timestamp() WHERE name = 'objects';

-- name: end_round
UPDATE object_sweep SET position = $2 WHERE name = 'objects' AND position = $1;

-- name: read_mark
SELECT batch_position, extract(epoch FROM began_at)::float8 AS began_at_s,
       extract(epoch FROM ended_at)::float8 AS ended_at_s,
       extract(epoch FROM clock_timestamp())::float8 AS now_s,
       CASE WHEN began_at > coalesce(ended_at, '-infinity') THEN EXISTS (
           SELECT FROM pg_locks l
            WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = 7251105
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       ) ELSE false END AS is_alive
  FROM object_sweep
 WHERE name = 'objects';
