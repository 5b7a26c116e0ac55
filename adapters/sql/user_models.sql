-- name: write_user_models
-- A training that was admitted earlier and ends later changes nothing.
INSERT INTO user_models AS held (user_id, version, trigger_word, request_id, admitted_at)
SELECT user_id, version, trigger_word, request_id, to_timestamp(admitted_at_ms / 1000.0)
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    AS new (user_id, version, trigger_word, request_id, admitted_at_ms)
    ON CONFLICT (user_id) DO UPDATE
       SET version = excluded.version, trigger_word = excluded.trigger_word, request_id = excluded.request_id,
           admitted_at = excluded.admitted_at, trained_at = now()
     WHERE (excluded.admitted_at, excluded.request_id COLLATE "C") > (held.admitted_at, held.request_id COLLATE "C");
