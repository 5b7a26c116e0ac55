-- name: queue
-- The row was written with the admission; the services may claim it from now on.
UPDATE generations g
   SET state = 'queued', queued_at = now(), due_at = now(), traceparent = asked.traceparent
  FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (user_id, request_id, traceparent)
 WHERE g.user_id = asked.user_id AND g.request_id = asked.request_id AND g.state = 'admitted';

-- name: lock_generations
-- In key order; the services lock with SKIP LOCKED and only briefly.
SELECT g.user_id, g.request_id, g.operation, g.state, g.cost, g.refunded, g.prediction_id, g.prompt,
       g.options::text AS options, g.traceparent,
       (extract(epoch FROM g.admitted_at) * 1000)::bigint AS admitted_at_ms
  FROM generations g
  JOIN unnest($1::text[], $2::text[]) AS asked (user_id, request_id) USING (user_id, request_id)
 ORDER BY g.user_id, g.request_id
   FOR UPDATE OF g;

-- name: settle_generations
-- due_at is when a service should look again; an end state is looked at by nobody, a run to be stopped at once.
UPDATE generations g
   SET state = new.state,
       prediction_id = new.prediction_id,
       output_urls = coalesce(new.output_urls::json, g.output_urls),
       refunded = new.refunded,
       reason = new.reason,
       running_at = CASE WHEN new.state = 'running' THEN coalesce(g.running_at, now()) ELSE g.running_at END,
       storing_at = CASE WHEN new.state = 'storing' THEN coalesce(g.storing_at, now()) ELSE g.storing_at END,
       finished_at = CASE WHEN new.ended THEN now() ELSE g.finished_at END,
       attempts = CASE WHEN new.state = 'storing' AND g.state <> 'storing' THEN 0 ELSE g.attempts END,
       lease_until = CASE WHEN new.state = 'running' THEN g.lease_until ELSE NULL END,
       due_at = CASE WHEN new.state = 'storing' THEN now()
                     WHEN new.ended THEN NULL
                     WHEN g.cancel_requested_at IS NOT NULL THEN now()
                     ELSE coalesce(g.due_at, now()) END
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::boolean[])
    AS new (user_id, request_id, state, prediction_id, output_urls, refunded, reason, ended)
 WHERE g.user_id = new.user_id AND g.request_id = new.request_id;

-- name: write_generated
INSERT INTO generated_images (user_id, request_id, operation, prompt, prediction_id, image_count, cost, refunded)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::bigint[],
                     $8::bigint[])
    ON CONFLICT DO NOTHING;

-- name: write_pictures
INSERT INTO ai_images (image_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,
                       image_key, thumbnail_key, image_url, thumbnail_url, width, height, content_type, bytes, sha256)
SELECT image_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,
       image_key, thumbnail_key, $16 || image_key, $16 || thumbnail_key, width, height, content_type, bytes, sha256
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::integer[], $11::integer[], $12::text[], $13::bigint[], $14::text[], $15::text[])
    AS new (image_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,
            image_key, width, height, content_type, bytes, sha256, thumbnail_key)
    ON CONFLICT DO NOTHING;

-- name: write_videos
INSERT INTO videos (video_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,
                    video_key, video_url, width, height, content_type, bytes, sha256)
SELECT video_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,
       video_key, $15 || video_key, width, height, content_type, bytes, sha256
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::integer[], $11::integer[], $12::text[], $13::bigint[], $14::text[])
    AS new (video_id, user_id, request_id, prediction_id, output_index, operation, source, prompt,
            video_key, width, height, content_type, bytes, sha256)
    ON CONFLICT DO NOTHING;
