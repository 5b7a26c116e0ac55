-- migrate:up
-- A user's entries are read newest first, page by page.
CREATE INDEX ledger_newest ON ledger (user_id, version DESC);

-- migrate:down
DROP INDEX ledger_newest;
