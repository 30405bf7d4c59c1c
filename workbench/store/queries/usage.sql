-- Every call to a model of an org, oldest first.
-- $1 org_id, $2 from, $3 until (NULL: no bound; the first is inclusive, the second is not), $4 chat_id ('' for all).
-- One row per call.
SELECT
    id, request_id, org_id, user_id, chat_id, message_id, source, model, prompt_name, prompt_version, experiment, variant,
    started_at, ttft_ms, duration_ms, input_tokens, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, output_tokens, thinking_tokens, web_searches, service_tier, stop_reason, status, error_type,
    usage_estimated, cost_usd, price_source
FROM usage
WHERE org_id = $1
  AND started_at >= COALESCE($2, started_at)
  AND (CAST($3 AS TIMESTAMPTZ) IS NULL OR started_at < $3)
  AND ($4 = '' OR chat_id = $4)
ORDER BY started_at, id
