-- Calls to models between two times, with all their columns.
-- $1 from (inclusive), $2 until (not), $3 an id ('' to begin with): only those after it, $4 how many at most.
-- All orgs.  One row per call, in the order of their ids.
SELECT
    id, request_id, org_id, user_id, chat_id, message_id, source, model, prompt_name, prompt_version, experiment, variant,
    started_at, ttft_ms, duration_ms, input_tokens, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, output_tokens, thinking_tokens, web_searches, service_tier, inference_geo, speed, stop_reason,
    status, error_type, usage_estimated, cost_usd, price_source, upstream_request_id, history_messages, left_out_messages,
    key_id
FROM usage
WHERE started_at >= $1 AND started_at < $2 AND id > $3
ORDER BY id
LIMIT $4
