-- name: unfinished_by_state
-- From the index of unfinished work; finished rows are not looked at, however many there are.
SELECT state, count(*) AS requests,
       greatest(0, extract(epoch FROM now() - min(admitted_at)))::float8 AS oldest_s
  FROM generations
 WHERE state IN ('queued', 'submitting', 'running', 'storing')
 GROUP BY state;
