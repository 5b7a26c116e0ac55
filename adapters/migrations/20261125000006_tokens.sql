-- migrate:up

-- Who may use the HTTP gateway. A token is shown once, when it is made; here is only its secret's SHA-256.
CREATE TABLE tokens (
    token_id    text        PRIMARY KEY,
    secret_hash bytea       NOT NULL CHECK (octet_length(secret_hash) = 32),
    scopes      text[]      NOT NULL CHECK (cardinality(scopes) > 0),
    name        text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);
-- Every gateway reads the live ones every other second; those that were revoked stay, to be told of.
CREATE INDEX tokens_live ON tokens (created_at) WHERE revoked_at IS NULL;

-- migrate:down

DROP TABLE tokens;
