-- The open holds that count against a budget, expired ones too.
-- $1 org_id, $2 user_id (NULL: of all users), $3 key_id (NULL: with any key or none).
-- One row per hold: id, amount_usd (NULL: no price is known), expires_at.
SELECT id, amount_usd, expires_at
FROM holds
WHERE org_id = $1 AND user_id = COALESCE(CAST($2 AS TEXT), user_id)
  AND (CAST($3 AS TEXT) IS NULL OR key_id = $3) AND state = 'open'
