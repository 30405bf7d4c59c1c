-- The calls of every chat that has one in a period, whenever they were, and those without a chat in it; oldest first.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not), $4 chat_id ('' for all).
-- One row per call.
SELECT
    id, chat_id, message_id, source, model, started_at, COALESCE(duration_ms, 0) AS duration_ms, uncached_input_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, thinking_tokens, web_searches,
    service_tier, inference_geo, speed, status, cost_usd, history_messages, left_out_messages, prompt_name, prompt_version,
    started_at >= COALESCE($2, started_at) AS in_period
FROM usage
WHERE org_id = $1
  AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR started_at < $3)
  AND ($4 = '' OR chat_id = $4)
  AND (started_at >= COALESCE($2, started_at)
       OR chat_id IN (SELECT chat_id FROM usage WHERE org_id = $1 AND started_at >= COALESCE($2, started_at)))
ORDER BY started_at, id
