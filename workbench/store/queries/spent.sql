-- What was spent in a period, here and not elsewhere (imports), and what is held for turns that run, in US dollars.
-- $1 org_id, $2 user_id (NULL: of all users), $3 key_id (NULL: with any key or none), $4 when the period began, $5 now,
-- $6 id of a hold not to count.
-- One row.
SELECT
    (SELECT COALESCE(SUM(cost_usd), 0)
     FROM usage
     WHERE org_id = $1 AND user_id = COALESCE(CAST($2 AS TEXT), user_id)
       AND (CAST($3 AS TEXT) IS NULL OR key_id = $3) AND started_at >= $4 AND source <> 'import'),
    (SELECT COALESCE(SUM(amount_usd), 0)
     FROM holds
     WHERE org_id = $1 AND user_id = COALESCE(CAST($2 AS TEXT), user_id)
       AND (CAST($3 AS TEXT) IS NULL OR key_id = $3) AND state = 'open' AND expires_at > $5 AND id <> $6)
