-- name: find_requests
-- Without a user ($2 is null) this reads the whole table: an id is unique only within its user.
SELECT user_id, request_id, operation, state, cost, refunded, reason, prompt, prediction_id, partition, attempts,
       admitted_at, queued_at, submitted_at, running_at, storing_at, finished_at
  FROM generations
 WHERE request_id = $1 AND user_id = coalesce($2, user_id)
 ORDER BY user_id
 LIMIT 10;

-- name: entries_of_request
-- The charge and whole refund under the request's own reference, refunds of single outputs below it.
SELECT entry_id, amount, kind, reference_id, balance_after, version, created_at
  FROM ledger
 WHERE reference_id = $1 OR reference_id = ANY (SELECT $1 || '/' || number FROM generate_series(0, 100) AS number)
 ORDER BY version;

-- name: images_of_request
SELECT 'ai_images' AS kept_in, image_id, output_index, prediction_id, image_url, thumbnail_url, width, height, bytes,
       created_at
  FROM ai_images
 WHERE user_id = $1 AND request_id = $2
 UNION ALL
SELECT 'videos', video_id, output_index, prediction_id, video_url, '', width, height, bytes, created_at
  FROM videos
 WHERE user_id = $1 AND request_id = $2
 ORDER BY output_index;
