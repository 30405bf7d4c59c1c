-- What a chat has cost so far, its forks apart.
-- $1 chat_id, $2 org_id.  One row: US dollars, and how many calls have no known price.
SELECT
    CAST(COALESCE(SUM(cost_usd), 0) AS DECIMAL(18, 9)),
    CAST(COALESCE(SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT)
FROM usage
WHERE chat_id = $1 AND org_id = $2
