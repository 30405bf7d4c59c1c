-- The orgs there are, with what each may spend and ask.
-- No parameters: for whoever runs the store.  One row per org.
SELECT id, created_at, budget_usd, budget_period, rate_per_minute, rate_burst
FROM orgs
ORDER BY id
