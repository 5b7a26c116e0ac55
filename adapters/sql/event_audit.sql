-- name: rows_of_partition
SELECT user_id, request_id, cost, balance, version, state, refunded,
       (extract(epoch FROM admitted_at) * 1000)::bigint AS admitted_at_ms
  FROM generations
 WHERE partition = $1;

-- name: rows_of_requests
SELECT g.user_id, g.request_id, g.cost, g.balance, g.version, g.state, g.refunded,
       (extract(epoch FROM g.admitted_at) * 1000)::bigint AS admitted_at_ms
  FROM unnest($1::text[], $2::text[]) AS asked (user_id, request_id)
  JOIN generations g USING (user_id, request_id);

-- name: moved_accounts
SELECT user_id, balance, version FROM accounts WHERE version > 0;

-- name: balances_of
SELECT user_id, balance, version FROM accounts WHERE version > 0 AND user_id = ANY($1::text[]);

-- name: positions
SELECT stream, partition, next_offset FROM stream_progress;

-- name: letters_acted_on
SELECT DISTINCT letter_id FROM dead_letter_actions;
