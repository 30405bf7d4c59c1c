-- The key of an id, for whoever shows it: its org is not known before.
-- $1 key_id.  One row or none.
SELECT
    id, org_id, user_id, secret_sha256, scopes, created_at, expires_at, revoked_at, last_used_at, replaced_by, name,
    budget_usd, budget_period
FROM api_keys
WHERE id = $1
