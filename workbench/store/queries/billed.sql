-- What the ledger has of each UTC day and model of Claude, to be compared with a bill.
-- $1 org_id, $2 from, $3 until (the first is inclusive, the second is not).
-- One row per day and model; cost_usd is that of the calls whose price is known, NULL when there are none.
SELECT
    CAST(date_trunc('day', started_at AT TIME ZONE 'UTC') AS DATE)             AS day,
    model,
    COUNT(*)                                                                   AS calls,
    CAST(SUM(uncached_input_tokens) AS BIGINT)                                 AS uncached_input_tokens,
    CAST(SUM(cache_read_tokens) AS BIGINT)                                     AS cache_read_tokens,
    CAST(SUM(cache_write_5m_tokens) AS BIGINT)                                 AS cache_write_5m_tokens,
    CAST(SUM(cache_write_1h_tokens) AS BIGINT)                                 AS cache_write_1h_tokens,
    CAST(SUM(output_tokens) AS BIGINT)                                         AS output_tokens,
    CAST(SUM(web_searches) AS BIGINT)                                          AS web_searches,
    CAST(SUM(cost_usd) AS DECIMAL(18, 9))                                      AS cost_usd,
    CAST(SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) AS BIGINT)          AS unpriced_calls,
    CAST(SUM(CASE WHEN source = 'import' THEN 1 ELSE 0 END) AS BIGINT)         AS imported_calls,
    CAST(SUM(CASE WHEN usage_estimated OR status <> 'complete' THEN input_tokens + output_tokens ELSE 0 END) AS BIGINT)
        AS estimated_tokens,
    CAST(SUM(CASE WHEN usage_estimated OR status <> 'complete' THEN COALESCE(cost_usd, 0) ELSE 0 END) AS DECIMAL(18, 9))
        AS estimated_usd
FROM usage
WHERE org_id = $1 AND started_at >= $2 AND started_at < $3 AND model LIKE 'claude%'
GROUP BY 1, 2
ORDER BY 1, 2
