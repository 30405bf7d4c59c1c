-- The keys of an org, the ones that are good no longer too.
-- $1 org_id.  One row per key, the oldest first.
SELECT
    id, org_id, user_id, secret_sha256, scopes, created_at, expires_at, revoked_at, last_used_at, replaced_by, name,
    budget_usd, budget_period
FROM api_keys
WHERE org_id = $1
ORDER BY created_at, id
