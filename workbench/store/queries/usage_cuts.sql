-- Times that cut the calls of an org into slices of so many, for whoever must not hold all of them at once.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not), $4 how many.
-- One row per slice: when its first call began. Calls of one moment are never parted.
SELECT started_at
FROM (
    SELECT started_at, row_number() OVER (ORDER BY started_at) - 1 AS place
    FROM usage
    WHERE org_id = $1
      AND started_at >= COALESCE($2, started_at)
      AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR started_at < $3)
) AS calls
WHERE place % $4 = 0
GROUP BY started_at
ORDER BY started_at
