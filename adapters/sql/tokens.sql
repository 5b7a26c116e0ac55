-- name: create
-- No row when there are as many live ones as may be.
INSERT INTO tokens (token_id, secret_hash, scopes, name, expires_at)
SELECT $1, $2, $3, $4, $5
WHERE (SELECT count(*) FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) < $6
RETURNING token_id;

-- name: live
SELECT token_id, secret_hash, scopes, name, created_at, expires_at, revoked_at
FROM tokens
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY created_at
LIMIT $1;

-- name: list
SELECT token_id, secret_hash, scopes, name, created_at, expires_at, revoked_at
FROM tokens
ORDER BY created_at DESC, token_id
LIMIT $1;

-- name: revoke
-- The moment of the first revocation stays.
UPDATE tokens SET revoked_at = coalesce(revoked_at, now()) WHERE token_id = $1 RETURNING token_id;
