-- migrate:up

-- What the policy allowed when a request was admitted, so that windows can be recomputed whatever it became since.
-- Null: nothing was enforced (shadow mode).
ALTER TABLE generations ADD COLUMN window_limit integer, ADD COLUMN window_s integer;

-- migrate:down

ALTER TABLE generations DROP COLUMN window_s, DROP COLUMN window_limit;
