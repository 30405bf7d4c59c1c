-- The days on which there were calls.
-- $1 from, $2 until (NULL: no bound; the first is inclusive, the second is not).  All orgs, for whoever runs the store.
-- One row per day in UTC: the day, how many.
SELECT CAST(started_at AT TIME ZONE 'UTC' AS DATE) AS day, COUNT(*)
FROM usage
WHERE started_at >= COALESCE(CAST($1 AS TIMESTAMPTZ), started_at)
  AND (CAST($2 AS TIMESTAMPTZ) IS NULL OR started_at < CAST($2 AS TIMESTAMPTZ))
GROUP BY CAST(started_at AT TIME ZONE 'UTC' AS DATE)
ORDER BY day
