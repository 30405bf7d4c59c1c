-- Undo the transaction that has just written a hold if more than the budget is spent and held with it: the state breaks
-- the table's rule. Comes after budget_lock.
-- $1 org_id, $2 user_id (NULL: of all users), $3 key_id (NULL: with any key or none), $4 when the period began, $5 now,
-- $6 the budget in US dollars, $7 id of the hold.
UPDATE holds
SET state = 'over budget'
WHERE id = $7 AND $6 < (
    SELECT COALESCE(SUM(cost_usd), 0)
    FROM usage
    WHERE org_id = $1 AND user_id = COALESCE(CAST($2 AS TEXT), user_id)
      AND (CAST($3 AS TEXT) IS NULL OR key_id = $3) AND started_at >= $4 AND source <> 'import'
) + (
    SELECT COALESCE(SUM(amount_usd), 0)
    FROM holds
    WHERE org_id = $1 AND user_id = COALESCE(CAST($2 AS TEXT), user_id)
      AND (CAST($3 AS TEXT) IS NULL OR key_id = $3) AND state = 'open' AND expires_at > $5
)
