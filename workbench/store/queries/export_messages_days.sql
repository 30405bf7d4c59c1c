-- The days on which there were messages.
-- $1 from, $2 until (NULL: no bound; the first is inclusive, the second is not).  All orgs, for whoever runs the store.
-- One row per day in UTC: the day, how many.
SELECT CAST(created_at AT TIME ZONE 'UTC' AS DATE) AS day, COUNT(*)
FROM messages
WHERE created_at >= COALESCE(CAST($1 AS TIMESTAMPTZ), created_at)
  AND (CAST($2 AS TIMESTAMPTZ) IS NULL OR created_at < CAST($2 AS TIMESTAMPTZ))
GROUP BY CAST(created_at AT TIME ZONE 'UTC' AS DATE)
ORDER BY day
