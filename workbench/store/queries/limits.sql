-- What a caller may spend and how often they may ask.
-- $1 org_id, $2 user_id, $3 key_id (NULL: none was shown).
-- A row each for the org, the user and the key, as far as they are there: scope, id, budget_usd, budget_period,
-- rate_per_minute, rate_burst.
SELECT 'org', id, budget_usd, budget_period, rate_per_minute, rate_burst FROM orgs WHERE id = $1
UNION ALL
SELECT 'user', id, budget_usd, budget_period, rate_per_minute, rate_burst FROM users WHERE org_id = $1 AND id = $2
UNION ALL
SELECT 'key', id, budget_usd, budget_period, NULL, NULL FROM api_keys WHERE org_id = $1 AND id = $3
