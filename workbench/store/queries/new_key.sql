-- Keep a new key; its secret is only there as a hash.
-- $1 id, $2 org_id, $3 user_id, $4 secret_sha256, $5 scopes, $6 created_at, $7 expires_at, $8 name, $9 budget_usd,
-- $10 budget_period.
INSERT INTO api_keys
    (id, org_id, user_id, secret_sha256, scopes, created_at, expires_at, name, budget_usd, budget_period)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (id) DO NOTHING
