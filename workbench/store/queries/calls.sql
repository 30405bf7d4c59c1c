-- The calls of a chat, oldest first, with what they sent again and how long after the one before they began.
-- $1 chat_id, $2 org_id.  One row per call.
SELECT
    id, request_id, org_id, user_id, chat_id, message_id, source, model, prompt_name, prompt_version, experiment, variant,
    started_at, ttft_ms, duration_ms, input_tokens, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, output_tokens, thinking_tokens, web_searches, service_tier, inference_geo, speed, stop_reason,
    status, error_type, usage_estimated, cost_usd, price_source, history_messages, left_out_messages,
    CAST(EXTRACT(EPOCH FROM started_at) - LAG(EXTRACT(EPOCH FROM started_at) + COALESCE(duration_ms, 0) / 1000.0)
        OVER (ORDER BY started_at, id) AS DOUBLE PRECISION)              AS gap_s
FROM usage
WHERE chat_id = $1 AND org_id = $2
ORDER BY started_at, id
