-- Lists of ids and numbers come as one text, a line each: arrays are encoded element by element in Python,
-- which costs more than the whole query. Ids hold no line breaks.

-- name: lock_accounts
-- In key order, so that no two transactions can wait for each other.
SELECT user_id, balance, version, unlimited
  FROM accounts
 WHERE user_id = ANY(string_to_array($1, E'\n'))
 ORDER BY user_id
   FOR UPDATE;

-- name: read_balances
SELECT user_id, balance, version, unlimited
  FROM accounts
 WHERE user_id = ANY(string_to_array($1, E'\n'));

-- name: make_accounts
INSERT INTO accounts (user_id)
SELECT DISTINCT unnest(string_to_array($1, E'\n')) AS user_id ORDER BY user_id
    ON CONFLICT DO NOTHING;

-- name: move_accounts
UPDATE accounts a
   SET balance = moved.balance, version = moved.version
  FROM unnest(string_to_array($1, E'\n'), string_to_array($2, E'\n')::bigint[], string_to_array($3, E'\n')::bigint[])
    AS moved (user_id, balance, version)
 WHERE a.user_id = moved.user_id;

-- name: known_generations
SELECT g.user_id, g.request_id, g.operation, g.prompt, g.options::text, g.context::text, g.cost, g.balance, g.version,
       (extract(epoch FROM g.admitted_at) * 1000)::bigint AS admitted_at_ms
  FROM unnest(string_to_array($1, E'\n'), string_to_array($2, E'\n')) AS asked (user_id, request_id)
  JOIN generations g USING (user_id, request_id);

-- name: known_grants
SELECT reference_id, user_id, amount, kind
  FROM ledger
 WHERE reference_id = ANY($1::text[])
   AND kind IN ('purchase', 'subscription_grant', 'bonus');

-- name: write_admissions
-- All effects of an admission batch in one round trip: entries, the accounts they moved, new generations. A duplicate
-- key fails the step loudly.
WITH entries AS (
    INSERT INTO ledger (user_id, amount, kind, reference_id, balance_after, version)
    SELECT * FROM unnest(string_to_array($1, E'\n'), string_to_array($2, E'\n')::bigint[], string_to_array($3, E'\n'),
                         string_to_array($4, E'\n'), string_to_array($5, E'\n')::bigint[],
                         string_to_array($6, E'\n')::bigint[])
), moved AS (
    UPDATE accounts a
       SET balance = new.balance, version = new.version
      FROM unnest(string_to_array($7, E'\n'), string_to_array($8, E'\n')::bigint[], string_to_array($9, E'\n')::bigint[])
        AS new (user_id, balance, version)
     WHERE a.user_id = new.user_id
)
INSERT INTO generations (user_id, request_id, operation, cost, balance, version, admitted_at, prompt, options, context,
                         partition, window_limit, window_s)
SELECT user_id, request_id, operation, cost, balance, version, to_timestamp(admitted_at_ms / 1000.0), prompt,
       options::json, context::json, $20, window_limit, window_s
  FROM unnest(string_to_array($10, E'\n'), string_to_array($11, E'\n'), string_to_array($12, E'\n'),
              string_to_array($13, E'\n')::bigint[], string_to_array($14, E'\n')::bigint[],
              string_to_array($15, E'\n')::bigint[], string_to_array($16, E'\n')::bigint[], $17::text[], $18::text[],
              $19::text[], string_to_array($21, E'\n', '')::integer[], string_to_array($22, E'\n', '')::integer[])
    AS new (user_id, request_id, operation, cost, balance, version, admitted_at_ms, prompt, options, context,
            window_limit, window_s);
