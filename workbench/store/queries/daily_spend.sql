-- What was spent on each day, and of that what after this time of the day: days begin at midnight in UTC.
-- $1 org_id (NULL: all orgs together), $2 from, $3 until, $4 the time of the day, in seconds since midnight,
-- $5 org_id not to count among all.
-- One row per day with calls: the number of days since 1970, US dollars, later US dollars, calls of unknown price.
SELECT
    CAST(FLOOR(EXTRACT(EPOCH FROM started_at) / 86400) AS INTEGER)   AS day,
    CAST(COALESCE(SUM(cost_usd), 0) AS DECIMAL(18, 9))               AS spent_usd,
    CAST(COALESCE(SUM(CASE
        WHEN EXTRACT(EPOCH FROM started_at) - 86400 * FLOOR(EXTRACT(EPOCH FROM started_at) / 86400) >= $4 THEN cost_usd
    END), 0) AS DECIMAL(18, 9))                                      AS later_usd,
    CAST(SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) AS BIGINT) AS unpriced_calls
FROM usage
WHERE org_id = COALESCE(CAST($1 AS TEXT), org_id) AND (CAST($1 AS TEXT) IS NOT NULL OR org_id <> $5)
  AND started_at >= $2 AND started_at < $3
GROUP BY 1
ORDER BY 1
