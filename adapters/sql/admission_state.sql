-- name: admissions_since
-- What the windows of one partition are rebuilt from, oldest first: $2 are the operations, $3 from when on each counts,
-- $4 the earliest of those.
SELECT g.user_id, g.operation, (extract(epoch FROM g.admitted_at) * 1000)::bigint AS admitted_at_ms
  FROM generations g
  JOIN unnest($2::text[], $3::bigint[]) AS counted (operation, since_ms) USING (operation)
 WHERE g.partition = $1
   AND g.admitted_at > to_timestamp($4::bigint / 1000.0)
   AND g.admitted_at > to_timestamp(counted.since_ms / 1000.0)
 ORDER BY g.admitted_at;

-- name: in_flight_since
-- What has not ended of one partition, oldest first: $2 are the operations, $3 is longer ago than a request can live.
SELECT user_id, request_id, operation, (extract(epoch FROM admitted_at) * 1000)::bigint AS admitted_at_ms
  FROM generations
 WHERE partition = $1 AND operation = ANY($2::text[]) AND admitted_at > to_timestamp($3::bigint / 1000.0)
   AND state NOT IN ('completed', 'failed', 'cancelled')
 ORDER BY admitted_at;

-- name: ended_of
SELECT g.user_id, g.request_id
  FROM unnest($1::text[], $2::text[]) AS asked (user_id, request_id)
  JOIN generations g USING (user_id, request_id)
 WHERE g.state IN ('completed', 'failed', 'cancelled');
