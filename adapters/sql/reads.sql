-- name: generation
-- $1 user, $2 request. Its outputs come along as JSON, those that are still in the gallery, once it has completed;
-- a training's model, as long as it is the user's newest.
SELECT g.user_id, g.request_id, g.operation, g.state, g.cost, g.refunded, g.reason, g.prediction_id, g.admitted_at,
       g.queued_at, g.submitted_at, g.running_at, g.storing_at, g.finished_at, g.cancel_requested_at,
       CASE WHEN g.state = 'completed' THEN (
           SELECT json_agg(o ORDER BY o.output_index) FROM (
               SELECT image_id, output_index, image_url AS url, thumbnail_url, width, height, content_type, bytes,
                      sha256
                 FROM ai_images WHERE prediction_id = g.prediction_id AND user_id = g.user_id
                UNION ALL
               SELECT video_id, output_index, video_url, '', width, height, content_type, bytes, sha256
                 FROM videos WHERE prediction_id = g.prediction_id AND user_id = g.user_id
           ) o
       ) END::text AS images,
       CASE WHEN g.state = 'completed' THEN (
           SELECT json_build_object('version', m.version, 'trigger_word', m.trigger_word)
             FROM user_models m WHERE m.user_id = g.user_id AND m.request_id = g.request_id
       ) END::text AS model
  FROM generations g
 WHERE g.user_id = $1 AND g.request_id = $2;

-- name: owners_of_request
-- An id is unique only within its user, so this reads the whole table: few at once, and not for long.
SELECT user_id FROM generations WHERE request_id = $1 ORDER BY user_id LIMIT 10;

-- name: state
SELECT state FROM generations WHERE user_id = $1 AND request_id = $2;

-- name: entries
-- $1 user, $2 the version before which the page begins, $3 one more than the page holds.
SELECT entry_id, amount, kind, reference_id, balance_after, version, created_at
  FROM ledger
 WHERE user_id = $1 AND version < $2
 ORDER BY version DESC
 LIMIT $3;
