-- The users of an org, with what each may spend and ask.
-- $1 org_id.  One row per user.
SELECT id, created_at, budget_usd, budget_period, rate_per_minute, rate_burst
FROM users
WHERE org_id = $1
ORDER BY id
