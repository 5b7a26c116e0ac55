-- name: all_actions
SELECT action_id, letter_id, root_id, kind, attempt, reason, content, acted_by, note,
       (extract(epoch FROM acted_at) * 1000)::bigint AS at_ms, to_topic, to_partition, to_offset
  FROM dead_letter_actions
 ORDER BY action_no;

-- name: related_actions
-- The chain of a letter: $1 is its id, $2 the redrive that it says it comes from.
WITH roots AS (
    SELECT root_id
      FROM dead_letter_actions
     WHERE letter_id = $1 OR action_id = $2 OR to_topic || '/' || to_partition || '/' || to_offset = $1
)
SELECT action_id, letter_id, root_id, kind, attempt, reason, content, acted_by, note,
       (extract(epoch FROM acted_at) * 1000)::bigint AS at_ms, to_topic, to_partition, to_offset
  FROM dead_letter_actions
 WHERE root_id IN (SELECT root_id FROM roots)
 ORDER BY action_no;

-- name: lock_actions
-- Actions are a person's work: one at a time, so that no two of them count the same attempt.
SELECT pg_advisory_xact_lock(hashtextextended('dead_letter_actions', 0));

-- name: insert_action
INSERT INTO dead_letter_actions
       (action_id, letter_id, root_id, kind, attempt, reason, content, acted_by, note, to_topic)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: settle_redrive
UPDATE dead_letter_actions
   SET to_topic = $2, to_partition = $3, to_offset = $4
 WHERE action_id = $1 AND to_offset IS NULL;
