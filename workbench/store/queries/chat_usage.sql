-- What each reply of a chat used and cost.
-- $1 chat_id, $2 org_id.  One row per call to a model.
SELECT
    message_id, request_id, model, status, stop_reason, ttft_ms, COALESCE(duration_ms, 0) AS duration_ms, started_at,
    uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens,
    thinking_tokens, usage_estimated, cost_usd
FROM usage
WHERE chat_id = $1 AND org_id = $2
