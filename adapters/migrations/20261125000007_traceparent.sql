-- migrate:up

-- The W3C trace context that a request came with: what is said of the request later says it too.
ALTER TABLE generations ADD COLUMN traceparent text;

-- migrate:down

ALTER TABLE generations DROP COLUMN traceparent;
